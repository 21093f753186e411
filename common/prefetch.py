"""Batches made by threads while the one before is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from ..datasets.loading.batch import Batch

Job = TypeVar("Job")
Result = TypeVar("Result")


def make_ahead(make: Callable[[Job], Result], jobs: Iterable[Job], num_threads: int) -> Iterator[Result]:
    """Yield `make(job)` of every job, in their order; threads work on the jobs that come next.

    `make` should spend its time where Python's lock is released: OpenCV, NumPy and torch do. What it raises is raised
    here, in its job's turn. Leaving early drops the jobs not yet begun and waits for those that are.

    Args:
        num_threads: threads, each with a job of its own; one more job waits finished. 0 = make each when asked for.
    """
    if not num_threads:
        yield from map(make, jobs)
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="batch") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                begun.append(pool.submit(make, job))
                if len(begun) > num_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def batches_on(
    device: torch.device, make: Callable[[int], Batch], numbers: Iterable[int], num_threads: int
) -> Iterator[Batch]:
    """Yield `make(number)` of every number; on a GPU, copies and augmentation run beside the training's own work."""
    if device.type != "cuda" or not num_threads:
        yield from make_ahead(make, numbers, num_threads)
        return
    beside = _stream_beside(torch.cuda.current_device() if device.index is None else device.index)

    def make_beside(number: int) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.device(device), torch.cuda.stream(beside):
            batch = make(number)
            return batch, beside.record_event()

    for batch, made in make_ahead(make_beside, numbers, num_threads):
        training = torch.cuda.current_stream(device)
        training.wait_event(made)
        batch.record_stream(training)
        yield batch


@cache
def _stream_beside(gpu: int) -> torch.cuda.Stream:
    """Return one stream for all passes: torch keeps the memory of each for itself, and never gives it to another."""
    return torch.cuda.Stream(gpu)
