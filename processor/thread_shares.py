"""A batch shared among threads, each of which computes its images alone.

PyTorch's threads share each operation, and wait for the slowest of them hundreds of times per batch. Where another program takes a
part of a core, that costs most of the speed; threads that compute whole images wait once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

MOST_SHARES = 8  # more threads would wait for Python


def embed_in_shares(model: Any, work: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """Return `work(*parts)` (B, D) on a CPU, whose rows do not depend on each other; in shares if the model can be shared.

    Args:
        model: what computes; a compiled one, one of another runtime and one of several processes are not shared.
        parts: (B, …) each, cut into shares.
    """
    threads = torch.get_num_threads()
    count = min(threads, MOST_SHARES)
    if count < 2 or len(parts[0]) < threads or parts[0].device.type != "cpu" or not _can_be_shared(model):
        return work(*parts)
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    shares = zip(*(part.tensor_split(count) for part in parts), strict=True)
    return torch.cat(list(_pool(count, threads // count).map(partial(_compute, work, modes), shares)))


def _compute(work: Callable[..., Tensor], modes: tuple[bool, bool], share: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
        return work(*share)


def _can_be_shared(model: Any) -> bool:
    network = getattr(model, "network", model)
    if network is None or (dist.is_available() and dist.is_initialized()):
        return False
    return getattr(getattr(network, "backbone", None), "_compiled_call_impl", None) is None


@lru_cache(maxsize=1)
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """Return `count` threads whose operations have `threads` threads each."""
    before, all_there = torch.get_num_threads(), threading.Barrier(count)
    pool = ThreadPoolExecutor(count, "vitreid-share", partial(_settle, threads))
    for future in [pool.submit(all_there.wait) for _ in range(count)]:
        future.result()
    torch.set_num_threads(before)  # threads that begin to compute later take the number that was set last
    return pool


def _settle(threads: int) -> None:
    """Let the operations of this thread have so many threads."""
    torch.set_num_threads(threads)
    torch.get_num_threads()  # the first question of a thread takes the number over that was set last anywhere


if hasattr(os, "register_at_fork"):  # a child of a fork has none of these threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
