"""Ordered look-ahead: threads compute the next results, or the next items of a pipeline, while the caller uses the current one."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Item = TypeVar("Item")
WAIT_SECONDS = 0.1  # between two looks at whether the other side has ended
_ITEM, _ERROR, _END = range(3)


def prefetch(make: Callable[[Job], Result], jobs: Iterable[Job], num_threads: int) -> Iterator[Result]:
    """Yield `make(job)` for every job, in order; threads work on the next jobs.

    `make` should spend its time where Python's lock is released: OpenCV, NumPy and torch do. An exception of `make` is
    raised here, in its job's turn. Leaving early cancels waiting jobs and waits for running ones.

    Args:
        num_threads: threads, one job each; one more finished job waits. 0 = compute each job on demand, without threads.
    """
    if not num_threads:
        yield from map(make, jobs)
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                pending.append(pool.submit(make, job))
                if len(pending) > num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def read_ahead(
    items: Iterable[Item], num_waiting: int, *, newest: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Generator[Item, None, None]:
    """Yield the items in order; a thread computes them, of which at most `num_waiting` wait.

    Nested calls form a pipeline with one thread per stage. An exception of `items` is raised here, after the items before
    it. Leaving early ends the thread and closes `items`, if it is a generator.

    Args:
        newest: drop the item that waits longest rather than pause `items`; for a live source, which does not wait.
        stopped: asked while nothing is there yet; True ends the iteration.
    """
    waiting: queue.Queue[tuple[int, Any]] = queue.Queue(num_waiting)
    left = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, waiting, left, newest), name="read_ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = waiting.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                if stopped():
                    return
                continue
            if kind == _END:
                return
            if kind == _ERROR:
                raise value
            yield value
    finally:
        left.set()
        thread.join()


def _fill(
    items: Iterable[Any], waiting: queue.Queue[tuple[int, Any]], left: threading.Event, drops_oldest: bool
) -> None:
    """Put the items into the queue, then their end or their error; runs in the thread."""
    try:
        for item in items:
            if not _put(waiting, (_ITEM, item), left, drops_oldest):
                break
        last: tuple[int, Any] = (_END, None)
    except BaseException as error:
        last = (_ERROR, error)
    close = getattr(items, "close", None)
    if callable(close):
        close()
    _put(waiting, last, left)


def _put(
    waiting: queue.Queue[tuple[int, Any]], entry: tuple[int, Any], left: threading.Event, drops_oldest: bool = False
) -> bool:
    """Wait for room in the queue, or make it; return False if the reader has left."""
    while not left.is_set():
        try:
            waiting.put(entry, timeout=0 if drops_oldest else WAIT_SECONDS)
            return True
        except queue.Full:
            if drops_oldest:
                _drop(waiting)
    return False


def _drop(waiting: queue.Queue[tuple[int, Any]]) -> None:
    try:
        waiting.get_nowait()
    except queue.Empty:  # the reader was quicker
        return
