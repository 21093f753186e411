"""Ordered look-ahead: threads compute the next results while the caller uses the current one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


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
