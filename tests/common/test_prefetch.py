"""Stages of a pipeline: order, errors and ends are those of a plain loop, and no thread is left behind."""

import threading
import time

import pytest

from vitreid.common.prefetch import read_ahead


def no_thread_left():
    return not [thread for thread in threading.enumerate() if thread.name == "read_ahead"]


def test_items_come_in_order_through_nested_stages():
    inner = read_ahead(range(50), 2)
    assert list(read_ahead((item * 2 for item in inner), 3)) == [item * 2 for item in range(50)]
    assert no_thread_left()


def test_an_error_comes_after_the_items_before_it():
    def failing():
        yield 1
        raise OSError("unplugged")

    stage = read_ahead(failing(), 4)
    assert next(stage) == 1
    with pytest.raises(OSError, match="unplugged"):
        next(stage)
    assert no_thread_left()


def test_leaving_early_closes_all_stages():
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    stage = read_ahead(read_ahead(source(), 1), 1)
    assert next(stage) == 0
    stage.close()
    assert closed == [True] and no_thread_left()


def test_the_queue_is_bounded():
    made = []

    def source():
        for item in range(100):
            made.append(item)
            yield item

    stage = read_ahead(source(), 3)
    next(stage)
    time.sleep(0.05)
    assert len(made) <= 6, "one is used, three wait, one waits for room, one may have been made since"
    stage.close()


def test_of_a_live_source_the_oldest_waiting_item_is_dropped():
    seen_all = threading.Event()

    def source():
        yield from range(100)
        seen_all.set()

    stage = read_ahead(source(), 2, newest=True)
    seen_all.wait(5)
    rest = list(stage)
    assert rest[-1] == 99 and rest == sorted(rest) and len(rest) <= 3


def test_an_end_is_possible_while_nothing_comes():
    gate = threading.Event()

    def silent():
        gate.wait(5)
        yield 1

    stage = read_ahead(silent(), 1, stopped=lambda: gate.set() or True)  # the camera answers once it is closed
    assert list(stage) == [] and no_thread_left()
