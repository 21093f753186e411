"""Requests that cost much or ask what they may not: refused before the work, without an error of the server."""

import asyncio
import gc
import io
import json
import logging
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("httpx", reason='needs the extra: pip install "vitreid[serve]"')

from fastapi.testclient import TestClient
from web_gallery import COLOURS, FakeEmbedder, encode, person, upload

from vitreid.gallery import Gallery
from vitreid.gallery.search import filter_hints
from vitreid.gallery.web import create_app, routes
from vitreid.gallery.web.guard import middleware, quiet_log
from vitreid.gallery.web.guard.limits import RateLimit, client_of
from vitreid.gallery.web.media import upload_decode
from vitreid.gallery.web.media.upload_decode import MAX_SCANS, MAX_SEGMENTS, decode
from vitreid.gallery.web.models import MAX_CONDITIONS, MAX_VALUES, CheckedFields, SearchFields
from vitreid.gallery.web.request_body import MAX_PARTS, MAX_TEXT_BYTES
from vitreid.gallery.web.worker_lanes import Lane

CROP = encode(person(COLOURS[0]))
JSON = {"Content-Type": "application/json"}
PERSON = {"who": "Ann", "name": "Eve"}
ROUTES = {
    "/search": {},
    "/embed": {},
    "/attention": {},
    "/identify": {},
    "/enrol": PERSON,
}  # path: fields next to the image


def served_app(served, **options):
    return create_app(Gallery.open(served), options.pop("embedder", FakeEmbedder()), **options)


# ---- who asks


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "127.0.0.2", "0.0.0.0:1", "[::1]:80", "192.0.2.7"]
)
def test_addresses_are_answered(host, served):
    client = TestClient(served_app(served, hosts=["localhost"]))
    assert client.get("/facets", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.com", "127.0.0.1.evil.com", "localhost.evil.com:80", "1.2.3", "0x7f000001", "a]b", ""]
)
def test_names_of_other_sites_are_not(host, served):
    """They may lead to any address of this machine (DNS rebinding)."""
    client = TestClient(served_app(served, hosts=["localhost"]))
    assert client.get("/facets", headers={"Host": host}).status_code == 421


@pytest.fixture(scope="module")
def enrolling(served, tmp_path_factory):
    """A server that permits everything."""
    folder = shutil.copytree(served, tmp_path_factory.mktemp("enrolling") / "gallery")
    with TestClient(served_app(folder, enrol=True), raise_server_exceptions=False) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_client_has_few_guesses(served):
    """Also its right one has to wait then, or it could be found by trying; others do not."""
    app = served_app(served, token="s3cret")
    guessing, other = (TestClient(app, client=(address, 1)) for address in ("192.0.2.1", "192.0.2.2"))
    statuses = [guessing.get("/facets", headers=bearer(i)).status_code for i in range(middleware.GUESSES + 1)]
    assert statuses == [401] * middleware.GUESSES + [429]
    refused = guessing.get("/facets", headers=bearer("s3cret"))
    assert refused.status_code == 429 and "wrong tokens" in refused.json()["detail"] and refused.headers["retry-after"]
    assert guessing.get("/").status_code == 200 and other.get("/facets", headers=bearer("s3cret")).status_code == 200


def test_no_token_is_no_guess(served):
    client = TestClient(served_app(served, token="s3cret"))
    for headers in [{}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}] * 9:
        assert client.get("/facets", headers=headers).status_code == 401
    assert client.get("/facets", headers=bearer("s3cret")).status_code == 200


@pytest.mark.parametrize(
    "address, counted",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", "testclient"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_the_addresses_of_one_household_are_one_client(address, counted):
    assert client_of(address) == counted


def test_a_look_takes_nothing_from_the_bucket():
    rate = RateLimit(1, burst=1, clock=lambda: 0)
    assert [rate.remaining_wait("a"), rate.wait("a"), rate.remaining_wait("a"), rate.wait("a")] == [0, 0, 1, 1]
    assert RateLimit(None).remaining_wait("a") == 0


# ---- how long, how much


def call(app, receive, path="/search", headers=(), method="POST"):
    """Call the application as a server does; return the messages it sends."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("192.0.2.1", 1),
    }
    sent = []

    async def send(message):
        sent.append(message)

    return asyncio.wait_for(app(scope, receive, send), 20), sent


def status_and_text(sent):
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"], dict(sent[0]["headers"])


def test_a_body_has_a_deadline(served, monkeypatch):
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.01)

    async def never():
        await asyncio.Event().wait()

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    running, sent = call(served_app(served), never, headers=headers)
    asyncio.run(running)
    status, text, headers = status_and_text(sent)
    assert status == 408 and "did not arrive within 0.01 s" in text and headers[b"connection"] == b"close"


def test_an_answer_has_a_deadline_and_the_server_works_on(served, monkeypatch):
    monkeypatch.setattr(middleware, "ANSWER_SECONDS", 0.05)
    embedder = FakeEmbedder()
    embedder.gate = threading.Event()
    with TestClient(served_app(served, embedder=embedder)) as client:
        refused = upload(client, CROP)
        assert (
            refused.status_code == 503
            and refused.headers["retry-after"]
            and "within 0.05 s" in refused.json()["detail"]
        )
        embedder.gate.set()
        monkeypatch.setattr(middleware, "ANSWER_SECONDS", 20)
        assert upload(client, CROP).status_code == 200


def test_a_client_that_takes_no_part_of_a_response_is_left(served, monkeypatch):
    monkeypatch.setattr(middleware, "SEND_SECONDS", 0.01)

    async def ask():
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_):
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "headers": [], "client": None}
        await asyncio.wait_for(served_app(served)(scope, receive, send), 20)

    asyncio.run(ask())


def test_all_bodies_together_are_bounded(served, monkeypatch):
    """Many clients that send slowly must not fill the memory."""
    monkeypatch.setattr(middleware, "MOST_BYTES", 1000)
    app = served_app(served)
    headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", b"900")]

    async def ask():
        arrived, gate = asyncio.Event(), asyncio.Event()

        async def slow():
            if arrived.is_set():
                await gate.wait()
                return {"type": "http.request", "body": b"x", "more_body": False}
            arrived.set()
            return {"type": "http.request", "body": b"x" * 800, "more_body": True}

        async def quick():
            return {"type": "http.request", "body": b"x" * 300, "more_body": False}

        running, first = call(app, slow, headers=headers)
        task = asyncio.ensure_future(running)
        await arrived.wait()
        running, second = call(app, quick, headers=headers)
        await running
        gate.set()
        await task
        running, third = call(app, quick, headers=headers)
        await running
        return [sent[0]["status"] for sent in (first, second, third)]

    assert asyncio.run(ask()) == [400, 503, 400]  # no forms; the second had no room


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_without_its_length_is_refused(path, enrolling):
    response = enrolling.post(path, content=(b"x" for _ in range(3)), headers=JSON)
    assert response.status_code == 411 and "Content-Length" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/search", "/attention", "/identify", "/enrol", "/people/regroup"])
def test_much_text_is_refused_before_it_is_read(path, enrolling, monkeypatch):
    monkeypatch.setattr(CheckedFields, "model_validate_json", lambda _: pytest.fail("it was read"))
    response = enrolling.post(path, content=b" " * (MAX_TEXT_BYTES + 1), headers=JSON)
    assert response.status_code == 413 and "kB of text" in response.json()["detail"]


def test_much_text_in_a_form_is_refused(client):
    for fields in ({"vector": "1" * (MAX_TEXT_BYTES + 1)}, {"where": ["x" * 20_000] * 20}):
        assert upload(client, CROP, **fields).status_code == 413
    assert upload(client, CROP, where=["camera=c1"] * MAX_PARTS).status_code == 400


def test_much_text_in_the_form_of_a_person_is_refused(enrolling):
    long = "x" * (MAX_TEXT_BYTES + 1)
    for field in ("who", "name", "camera"):
        assert upload(enrolling, CROP, "/enrol", **{**PERSON, field: long}).status_code == 413
    many = [("image", ("crop.png", CROP))] * (MAX_PARTS + 1)
    assert enrolling.post("/enrol", files=many, data=PERSON).status_code == 400


@pytest.mark.parametrize("path", [*ROUTES, "/people/regroup"])
def test_routes_that_cost_much_count_for_the_rate(path, served):
    client = TestClient(served_app(served, rate=0.001), raise_server_exceptions=False)
    assert [client.post(path, json={}).status_code == 429 for _ in range(2)] == [False, True]


def test_the_largest_vector_has_room():
    longest = "-0.00012345678901234567"
    assert len(json.dumps({"vector": [float(longest)] * MAX_VALUES}, indent=1)) < MAX_TEXT_BYTES


@pytest.mark.parametrize("send", ["json", "form"])
def test_bodies_are_read_in_a_thread(send, client, monkeypatch):
    """The event loop, and with it all other clients, would wait for them."""
    names = []
    checked = SearchFields.__pydantic_validator__

    def noted(fields):
        names.append(threading.current_thread().name)
        return checked.validate_json(fields) if isinstance(fields, bytearray) else checked.validate_python(fields)

    monkeypatch.setattr(SearchFields, "model_validate_json" if send == "json" else "model_validate", noted)
    response = client.post("/search", json={"id": 0}) if send == "json" else upload(client, CROP)
    assert response.status_code == 200 and names[0].startswith("vitreid-parse")


def test_one_wrong_value_ends_the_check_of_a_vector():
    with pytest.raises(ValueError) as wrong:
        SearchFields.model_validate_json(b'{"vector": [' + b'"",' * 5000 + b"1]}")
    assert [error["type"] for error in wrong.value.errors()] == ["float_type", "none_required"]  # a list, or nothing


def test_a_form_is_freed_once_it_is_read(served):
    """Without a wait for Python's search for reference cycles: each holds up to 10 MB."""
    app = served_app(served)
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n'

    async def ask(content):
        async def receive():
            return {
                "type": "http.request",
                "body": head + content + bytes(1_000_000) + b"\r\n--b--",
                "more_body": False,
            }

        running, sent = call(app, receive, "/embed", headers)
        await running
        return sent[0]["status"]

    async def ask_all():
        await ask(CROP)
        gc.collect()
        tracemalloc.start()
        statuses = [await ask(content) for content in (CROP, b"no image") * 4]
        return statuses, tracemalloc.get_traced_memory()[0]

    gc.disable()
    try:
        statuses, num_bytes = asyncio.run(ask_all())
    finally:
        tracemalloc.stop()
        gc.enable()
    assert statuses == [200, 415] * 4 and num_bytes < 1_500_000


# ---- filters


def test_the_number_of_conditions_is_limited(client):
    where = ["camera!=c1"] * MAX_CONDITIONS
    assert client.post("/search", json={"id": 0, "where": where}).status_code == 200
    assert client.post("/search", json={"id": 0, "where": [*where, "pid=7"]}).status_code == 422


def test_values_that_no_row_has_are_not_compared_with_those_it_has(client, monkeypatch):
    """16 long ones took as many seconds, in which nobody else could search; at a terminal the comparison helps."""
    monkeypatch.setattr(filter_hints, "_likeness", lambda *_: pytest.fail("compared"))
    where = [f"camera!={i}{'x' * 400}" for i in range(MAX_CONDITIONS)]
    assert client.post("/search", json={"id": 0, "where": where}).status_code == 200
    assert upload(client, CROP, where=where).status_code == 200


# ---- images


def jpeg(size=(64, 32), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return encode(pixels, "JPEG", **options)


def with_scans(count, before=b""):
    """A progressive JPEG whose last scan comes `count` times, each behind some bytes that are no marker."""
    content = jpeg(progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:start] + (before + content[start:end]) * count + content[end:]


def with_segments(count):
    content = jpeg()
    return content[:2] + b"\xff\xe5\x00\x02" * count + content[2:]


COSTLY_IMAGES = {
    "2,000 scans": with_scans(2000),
    "scans behind bytes that decoders skip": with_scans(2000, b"\x00\x11\x22\xff\x00"),
    "scans behind fill bytes": with_scans(2000, b"\xff\xff\xff"),
    "100,000 segments": with_segments(100_000),
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", COSTLY_IMAGES)
def test_images_that_cost_much_are_refused_before_they_are_decoded(name, path, enrolling, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    response = upload(enrolling, COSTLY_IMAGES[name], path, **ROUTES[path])
    assert response.status_code == 422 and "JPEG has more than" in response.json()["detail"], response.text


@pytest.mark.parametrize(
    "content",
    [
        jpeg(progressive=True),
        jpeg(restart_marker_blocks=1),
        with_scans(MAX_SCANS - 20),
        with_segments(MAX_SEGMENTS - 20),
        jpeg(exif=b"Exif\0\0" + b"\xff\xda" * 200),
        jpeg() + b"\xff\xda\0\0" * 2000,  # a photo with a film behind it
    ],
)
def test_other_jpegs_are_accepted(content):
    assert decode(content, 10_000).shape == (64, 32, 3)


def test_what_no_header_says_is_stopped_by_the_time_it_takes(client, monkeypatch):
    times = iter(np.arange(1000) * 0.4)
    monkeypatch.setattr(upload_decode.time, "thread_time", lambda: next(times))
    response = upload(client, CROP)
    assert response.status_code == 422 and "takes too long" in response.json()["detail"]


def test_the_image_of_a_row_has_the_same_limit_as_an_upload(served):
    client = TestClient(served_app(served, max_pixels=2000))
    assert (
        client.post("/attention", json={"id": 0}).status_code == upload(client, CROP, "/attention").status_code == 413
    )
    client = TestClient(served_app(served, max_pixels=2048))  # 64 x 32
    assert client.post("/attention", json={"id": 0}).status_code == 200


def test_large_images_wait_for_each_other_and_small_ones_for_none_of_them(served, monkeypatch):
    monkeypatch.setattr(routes, "SMALL_PIXELS", 1000)
    lock, gate, large, most = threading.Lock(), threading.Event(), [], []

    class Slow(FakeEmbedder):
        def __call__(self, images, cameras):
            with lock:
                large.extend(image for image in images if len(image) == 64)
                most.append(len(large))
            if len(images[0]) == 64:
                gate.wait(20)
            with lock:
                large.clear()
            return super().__call__(images, cameras)

    small = encode(person(COLOURS[0], (32, 16)))
    with TestClient(served_app(served, embedder=Slow())) as client, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(upload, client, CROP) for _ in range(3)]
        assert client.get("/health").status_code == 200
        gate.set()
        assert upload(client, small).status_code == 200
        assert [job.result().status_code for job in waiting] == [200] * 3
    assert max(most) == 1


def test_an_overlay_is_not_larger_than_a_screen(client):
    response = upload(client, encode(person(COLOURS[0], (2100, 300))), "/attention")
    assert Image.open(io.BytesIO(response.content)).size == (146, 1024)


def test_work_that_is_stopped_while_it_waits_is_not_done():
    async def ask():
        lane, gate, done = Lane("test", 1), threading.Event(), []
        first = asyncio.ensure_future(lane.run(gate.wait))
        second = asyncio.ensure_future(lane.run(lambda: done.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.set()
        assert await first
        await lane.run(lambda: done.append(3))
        return done

    assert asyncio.run(ask()) == [3]


# ---- the log


@pytest.fixture
def log():
    """A logger whose messages are limited; the time is that of `log.now`."""
    logger, text = logging.Logger("test"), io.StringIO()
    logger.now = 0.0
    logger.addHandler(quiet_log.QuietHandler(clock=lambda: logger.now))
    logger.handlers[0].setStream(text)
    logger.lines = lambda: text.getvalue().splitlines()
    return logger


def test_the_log_does_not_grow_with_the_requests(log):
    for i in range(1000):
        log.warning("message %d", i)
    lines = log.lines()
    assert len(lines) == quiet_log.MESSAGES and lines[0].endswith("WARNING message 0")
    log.now = quiet_log.SECONDS
    log.warning("later")
    assert [line.partition("WARNING ")[2] for line in log.lines()[len(lines) :]] == [
        f"{1000 - quiet_log.MESSAGES} more messages left out",
        "later",
    ]


def test_a_message_has_a_limited_length(log):
    log.error("x" * 1_000_000)
    assert sum(map(len, log.lines())) < 1.1 * quiet_log.MOST_CHARACTERS


def test_a_message_holds_nothing_that_a_terminal_obeys(log):
    log.error("GET %s", "/\x1b[2J\r\x07é")
    (line,) = log.lines()
    assert line.endswith(r"GET /\x1b[2J\r\x07é")


def test_a_path_adds_no_line_to_the_log(served, caplog):
    app = served_app(served)
    app.add_api_route("/fails/{what}", lambda what: 1 / 0)
    response = TestClient(app, raise_server_exceptions=False).get("/fails/a%0AERROR%20b")
    assert response.status_code == 500
    assert all("\n" not in record.getMessage() for record in caplog.records)
