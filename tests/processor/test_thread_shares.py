"""A batch shared among threads: the same embeddings, in order, and only where it is safe."""

import os
import sys
import threading
import time

import pytest
import torch
from torch import nn

from vitreid.processor import thread_shares
from vitreid.processor.embedding.embed_settings import EmbedSettings
from vitreid.processor.embedding.extract import embed_images
from vitreid.processor.embedding.frame_pooling import embed_frames
from vitreid.processor.thread_shares import embed_in_shares

PLAIN = EmbedSettings()


class Pictures(nn.Module):
    """A model of two layers that notes the threads in which it computes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 8, 32), nn.GELU()), set()

    def embed(self, images, camids, viewids, neck, global_only):
        assert torch.is_inference_mode_enabled()
        self.seen.add((threading.get_ident(), torch.get_num_threads()))
        return self.backbone(images) + camids[:, None]


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def embed(model, count, settings=PLAIN):
    images = torch.randn(count, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return embed_images(
            model, images, torch.arange(count), torch.arange(count), settings, torch.device("cpu"), torch.float32
        )


@pytest.mark.parametrize("settings", [PLAIN, EmbedSettings(flip=True, normalize=False)])
def test_the_embeddings_and_their_order_are_those_of_the_whole_batch(settings, monkeypatch):
    model = Pictures()
    shared = embed(model, 7, settings)
    assert threading.get_ident() not in dict(model.seen) and {threads for _, threads in model.seen} == {1}
    assert torch.get_num_threads() == 2, "that of the caller stays"
    monkeypatch.setattr(thread_shares, "MOST_SHARES", 1)
    torch.testing.assert_close(shared, embed(model, 7, settings), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("why", ["one image", "one thread", "compiled", "another runtime"])
def test_a_batch_is_computed_whole_where_sharing_does_not_help(why):
    model = Pictures()
    if why == "one thread":
        torch.set_num_threads(1)
    if why == "compiled":
        model.backbone.compile(backend="eager")
    if why == "another runtime":
        model.network = None
    embed(model, 1 if why == "one image" else 6)
    assert len(model.seen) == 1 and threading.get_ident() in dict(model.seen)


def test_an_error_in_a_share_reaches_the_caller():
    class Broken(Pictures):
        def embed(self, images, camids, viewids, neck, global_only):
            if 5 in camids:
                raise MemoryError("no room")
            return super().embed(images, camids, viewids, neck, global_only)

    with pytest.raises(MemoryError, match="no room"):
        embed(Broken(), 6)
    assert embed(Pictures(), 6).shape == (6, 32), "the threads go on"


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")
def test_a_child_of_a_fork_computes():
    model = Pictures()
    embed(model, 6)
    child = os.fork()
    if not child:
        status = 1
        try:
            torch.set_num_threads(1)
            status = int(embed(model, 6).shape != (6, 32))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_gradients_are_off_and_on_as_for_the_caller():
    seen = []

    def work(rows):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return (rows,)

    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        seen.clear()
        with mode():
            expected = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            embed_in_shares(Pictures(), work, torch.zeros(4, 1))
        assert set(seen) == {expected} and len(seen) == 2


def test_a_system_that_starts_no_thread_computes_the_whole_batch(monkeypatch, caplog):
    start, started = threading.Thread.start, []

    def start_one(thread):
        started.append(thread)
        if thread.name.startswith("vitreid-share") and len(started) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    thread_shares._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", start_one)
    model = Pictures()
    try:
        embed(model, 6)
        assert threading.get_ident() in dict(model.seen) and "can't start new thread" in caplog.text
        assert torch.get_num_threads() == 2
    finally:
        thread_shares._pool.cache_clear()
    started[0].join(20)
    assert not started[0].is_alive()


def test_an_error_is_raised_once_no_share_computes():
    computing = threading.Event()

    def work(rows):
        if rows[0] == 0:
            raise MemoryError("no room")
        time.sleep(0.3)
        computing.set()
        return (rows,)

    with pytest.raises(MemoryError):
        embed_in_shares(Pictures(), work, torch.arange(4.0)[:, None])
    assert computing.is_set()


def test_frames_of_tracklets_are_embedded_in_shares(monkeypatch):
    class WithScores(Pictures):
        def embed_frames(self, images, camids, viewids, neck, global_only):
            return self.embed(images, camids, viewids, neck, global_only), images.mean((1, 2, 3))

    model, images = WithScores(), torch.randn(7, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    given = (
        model,
        images,
        torch.arange(7),
        torch.arange(7),
        EmbedSettings(flip=True),
        torch.device("cpu"),
        torch.float32,
    )
    with torch.inference_mode():
        frames, scores = embed_frames(*given)
        assert threading.get_ident() not in dict(model.seen)
        monkeypatch.setattr(thread_shares, "MOST_SHARES", 1)
        whole = embed_frames(*given)
    assert frames.shape == (7, 2, 32) and scores.shape == (7, 2)
    torch.testing.assert_close((frames, scores), whole, rtol=1e-6, atol=1e-6)


def test_a_thread_that_computes_alone_leaves_the_others_their_threads():
    def look(first):
        numbers.append((first(), torch.get_num_threads())[1])

    numbers, before = [], torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for first in (thread_shares.compute_alone, torch.get_num_threads):
            thread = threading.Thread(target=look, args=(first,))
            thread.start()
            thread.join()
        assert [*numbers, torch.get_num_threads()] == [1, 3, 3]
    finally:
        torch.set_num_threads(before)
