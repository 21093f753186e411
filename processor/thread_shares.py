"""A batch shared among threads, each of which computes its images alone.

PyTorch's threads share each operation, and wait for the slowest of them hundreds of times per batch. Where another program takes a
part of a core, that costs most of the speed; threads that compute whole images wait once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch import distributed as dist

MOST_SHARES = 8  # more threads would wait for Python
START_SECONDS = 10
Work: TypeAlias = Callable[..., tuple[Tensor, ...]]
_making = threading.Lock()
logger = logging.getLogger(__name__)


def embed_in_shares(model: Any, work: Work, *parts: Tensor) -> tuple[Tensor, ...]:
    """Return `work(*parts)`, (B, …) each, whose rows do not depend on each other; in shares on a CPU if the model can be shared.

    Gradient modes of the caller hold in the shares, others such as autocast do not: `work` sets them.

    Args:
        model: what computes; a compiled one, one of another runtime and one of several processes are not shared.
        parts: (B, …) each, cut into shares.
    """
    with _making:  # the number of a thread that asks for the first time must not be that of a share
        threads = torch.get_num_threads()
    count = number_of_shares(threads)
    if count < 2 or len(parts[0]) < threads or parts[0].device.type != "cpu" or not _can_be_shared(model):
        return work(*parts)
    with _making:
        pool = _pool(count, threads // count)
    if pool is None:
        return work(*parts)
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    shares = zip(*(part.tensor_split(count) for part in parts), strict=True)
    found = [pool.submit(_compute, work, modes, share) for share in shares]
    wait(found)  # all of them: after an error the caller may change the model
    return tuple(map(torch.cat, zip(*(one.result() for one in found), strict=True)))


def number_of_shares(threads: int) -> int:
    """Return the largest number of equal shares of the threads, up to MOST_SHARES; 1 if that would be few of many threads.

    >>> [number_of_shares(threads) for threads in (1, 2, 6, 7, 10, 11, 12, 16, 96)]
    [1, 2, 6, 7, 5, 1, 6, 8, 8]
    """
    count = max(share for share in range(1, min(threads, MOST_SHARES) + 1) if threads % share == 0)
    return count if 2 * count >= min(threads, MOST_SHARES) else 1


def _compute(work: Work, modes: tuple[bool, bool], share: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
        return work(*share)


def _can_be_shared(model: Any) -> bool:
    network = getattr(model, "network", model)
    if network is None or (dist.is_available() and dist.is_initialized()):
        return False
    return getattr(getattr(network, "backbone", None), "_compiled_call_impl", None) is None


@lru_cache(maxsize=4)
def _pool(count: int, threads: int) -> ThreadPoolExecutor | None:
    """Return `count` threads whose operations have `threads` threads each; None if the system starts no more threads."""
    before, all_there = torch.get_num_threads(), threading.Barrier(count, timeout=START_SECONDS)

    def settle() -> None:
        torch.set_num_threads(threads)
        torch.get_num_threads()  # the first question of a thread takes the number over that was set last anywhere

    pool = ThreadPoolExecutor(count, "vitreid-share", settle)
    try:
        for future in [pool.submit(all_there.wait) for _ in range(count)]:
            future.result()
        return pool
    except RuntimeError as error:  # no thread can be started, or one takes too long
        all_there.abort()
        pool.shutdown(wait=False)
        logger.warning("images are not shared among threads: %s", error)
        return None
    finally:
        torch.set_num_threads(before)  # threads that begin to compute later take the number that was set last


def compute_alone() -> None:
    """Let the operations of this thread use no other thread; those of other threads keep their number.

    Threads of an operation wait for each other, at full speed, many times; where others compute too, that takes longer than one.
    """
    with _making:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        others = threading.Thread(target=torch.set_num_threads, args=(before,))  # what threads take that begin later
        others.start()
        others.join()


def _forget() -> None:
    """In a child of a fork: it has none of these threads, and nobody who would open the lock."""
    global _making
    _making = threading.Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
