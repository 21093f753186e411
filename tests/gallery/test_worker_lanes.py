"""The threads for the work of requests: costly work gives way to that of others."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from web_gallery import FakeEmbedder, ids

from vitreid.gallery import Gallery
from vitreid.gallery.web import create_app
from vitreid.gallery.web.models import SearchFields
from vitreid.gallery.web.routes import is_costly
from vitreid.gallery.web.service import Service
from vitreid.gallery.web.worker_lanes import Lane

WORK = 0.05  # seconds of a processor


def work():
    end = time.thread_time() + WORK
    while time.thread_time() < end:
        pass
    return time.monotonic()


def twice(lane):
    """Return when the first and the second of two pieces of work ended."""

    async def both():
        return [await lane.run(work), await lane.run(work)]

    return asyncio.run(both())


def test_a_lane_rests_after_its_work_while_others_wait():
    first, second = twice(Lane("costly", 1, rest=4, others_wait=lambda: True))
    assert second - first >= 4 * WORK + WORK


def test_a_lane_goes_on_as_soon_as_nobody_else_waits():
    until = time.monotonic() + 4 * WORK
    first, second = twice(Lane("costly", 1, rest=1000, others_wait=lambda: time.monotonic() < until))
    assert first < second < first + 500 * WORK


def test_each_thread_begins_with_the_given_call_and_failures_arrive():
    begun = []
    lane = Lane("costly", 1, rest=1, begin=lambda: begun.append(threading.get_ident()))

    async def fail():
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
        return await lane.run(threading.get_ident)

    assert [asyncio.run(fail())] == begun


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"topk": 100}, False),
        ({"topk": 101}, True),
        ({"rerank": True}, True),
        ({"where": ["pid=1"] * 4}, False),
        ({"where": ["pid=1"] * 5}, True),
    ],
)
def test_which_searches_are_costly(fields, expected):
    assert is_costly(SearchFields(id=0, **fields)) is expected


def test_other_searches_do_not_queue_behind_costly_ones(served, monkeypatch):
    search, is_searching, go_on = Service.search, threading.Event(), threading.Event()

    def slow(self, query, vector):
        if query.rerank:
            is_searching.set()
            assert go_on.wait(60)
        return search(self, query, vector)

    monkeypatch.setattr(Service, "search", slow)
    with TestClient(create_app(Gallery.open(served), FakeEmbedder())) as client, ThreadPoolExecutor(3) as pool:
        costly = [pool.submit(client.post, "/search", json={"id": 0, "rerank": True}) for _ in range(3)]
        assert is_searching.wait(60)
        assert ids(client.post("/search", json={"id": 0, "topk": 2})) == [1, 4]
        assert not any(one.done() for one in costly)
        go_on.set()
        assert [len(json.loads(one.result().content)["results"]) for one in costly] == [5, 5, 5]
