"""Which of several processes this one is, under torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes that share the work; alone unless told otherwise.

    Args:
        rank: number of this process; 0 does what must be done once.
        wait: returns once all processes have called it.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], object] = lambda: None

    @property
    def is_first(self) -> bool:
        """Whether this process does what must be done once."""
        return self.rank == 0


@contextlib.contextmanager
def joined_ranks(patience: timedelta = timedelta(days=1)) -> Iterator[Ranks]:
    """Yield this process' place among those that torchrun started; each gets a GPU of its own, where there are some.

    Args:
        patience: how long one process waits for the others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.distributed.init_process_group("gloo", timeout=patience)
    try:
        yield Ranks(torch.distributed.get_rank(), size, torch.distributed.barrier)
    finally:
        torch.distributed.destroy_process_group()
