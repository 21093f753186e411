"""Block sizes for large matrix products, and rows shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np
import torch

CACHED_ELEMENTS = 2**22  # 16 MiB of float32: a block stays in the processor's cache for the next step
MOST_ELEMENTS = 2**26  # 256 MiB
EFFICIENT_ROWS = 256  # fewer rows make the matrix product slower


def block_rows(num_columns: int) -> int:
    """Return the number of rows per block of `num_columns` columns: as many as fit the cache, or enough for a fast product."""
    return max(1, CACHED_ELEMENTS // num_columns, min(EFFICIENT_ROWS, MOST_ELEMENTS // num_columns))


T = TypeVar("T")


def map_rows(work: Callable[[int], np.ndarray], count: int) -> list[np.ndarray]:
    """Return [work(0), ..., work(count - 1)]; each of torch's threads computes one share of the rows."""
    return list(chain.from_iterable(map_shares(lambda share: [work(i) for i in range(count)[share]], count)))


def map_shares(work: Callable[[slice], T], count: int) -> list[T]:
    """Return `work(share)` of each thread's share of `count` rows, in order; a few long calls are faster than many short ones."""
    num_threads = torch.get_num_threads()
    shares = [slice(count * i // num_threads, count * (i + 1) // num_threads) for i in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(work, shares))
