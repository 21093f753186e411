"""Threads for the work of requests, one group per kind, so that slow work of one kind does not keep the others waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
LOOK_SECONDS = 0.02  # between two looks at whether others still wait


class Lane:
    """Some threads; requests wait in order, and one that is stopped while it waits costs nothing.

    Args:
        name: of the kind of work.
        num_threads: pieces of work at the same time.
        rest: seconds that a thread rests per second of processor time that its last piece of work took, as long as others
            wait: with 1 each thread has half of a core then, with 2 a third.
        others_wait: whether requests of other kinds wait.
        begin: called once in each thread.
    """

    def __init__(
        self,
        name: str,
        num_threads: int,
        rest: float = 0,
        others_wait: Callable[[], bool] = lambda: False,
        begin: Callable[[], object] | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(num_threads, f"vitreid-{name}", begin)
        self._rest, self._others_wait = rest, others_wait
        self._own = threading.local()

    async def run(self, action: Callable[[], T]) -> T:
        """Return the result of `action`; work that has started is finished even if the request is stopped."""
        work = partial(self._after_rest, action) if self._rest else action
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _after_rest(self, action: Callable[[], T]) -> T:
        end: float = getattr(self._own, "end_of_rest", 0.0)
        while (left := end - time.monotonic()) > 0 and self._others_wait():
            time.sleep(min(left, LOOK_SECONDS))
        started = time.thread_time()
        try:
            return action()
        finally:
            self._own.end_of_rest = time.monotonic() + self._rest * (time.thread_time() - started)
