"""Threads for the work of requests, one group per kind, so that slow work of one kind does not keep the others waiting."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
NICENESS = 10  # of threads that give way: the others of the process get some nine times their share of a core


class Lane:
    """Some threads; requests wait in order, and one that is stopped while it waits costs nothing.

    Args:
        name: of the kind of work.
        num_threads: pieces of work at the same time.
        gives_way: the cores are for other work first, where the system has priorities of threads (Linux).
    """

    def __init__(self, name: str, num_threads: int, gives_way: bool = False) -> None:
        start = _give_way if gives_way else None
        self._threads = ThreadPoolExecutor(num_threads, f"vitreid-{name}", start)

    async def run(self, action: Callable[[], T]) -> T:
        """Return the result of `action`; work that has started is finished even if the request is stopped."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)


def _give_way() -> None:
    """Lower the priority of the thread that calls."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
