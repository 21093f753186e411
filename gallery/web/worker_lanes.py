"""Threads for the work of requests, one group per kind, so that slow work of one kind does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Lane:
    """Some threads; requests wait in order, and one that is stopped while it waits costs nothing.

    Args:
        name: of the kind of work.
        num_threads: pieces of work at the same time.
    """

    def __init__(self, name: str, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix=f"vitreid-{name}")

    async def run(self, action: Callable[[], T]) -> T:
        """Return the result of `action`; work that has started is finished even if the request is stopped."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)
