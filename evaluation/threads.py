"""Rows shared out among threads: numpy releases the interpreter while it sorts and counts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import torch


def map_rows(work: Callable[[int], np.ndarray], count: int) -> list[np.ndarray]:
    """Return [work(0), ..., work(count - 1)], one share of the rows per thread of torch's setting."""
    num_threads = torch.get_num_threads()
    shares = [range(count * i // num_threads, count * (i + 1) // num_threads) for i in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(chain.from_iterable(pool.map(lambda share: [work(i) for i in share], shares)))
