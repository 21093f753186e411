"""The processes that torchrun started: which one this is, what they decide together, and how one's failure reaches all."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from .failures import Alarm, RankFailed, exits_within

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes that share the work; alone unless told otherwise.

    The methods are collective: every process has to call them, in the same order.

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

    def any(self, flag: bool) -> bool:
        """Return, on all processes, whether `flag` is true on at least one."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        dist.all_reduce(votes)
        return bool(votes)

    def gather_objects(self, value: T) -> list[T]:
        """Return every process' value, by rank, on all processes."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """Return, on all processes, what `make` returns on the first, which alone calls it."""
        values: list[Any] = [make() if self.is_first else None]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]


ALONE = Ranks()


@contextlib.contextmanager
def joined_ranks(patience: timedelta = timedelta(days=1)) -> Iterator[Ranks]:
    """Yield this process' place among those that torchrun started; each gets a GPU of its own, where there are some.

    Tensors on a GPU travel through NCCL, others through gloo. The processes leave together; where one fails, the
    others fail within seconds, wherever they are.

    Args:
        patience: how long one process waits for the others.
    Raises:
        RankFailed: another process failed, was killed, or did not start.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    with_cuda = torch.cuda.is_available()
    if with_cuda:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if with_cuda and dist.is_nccl_available() else "gloo"
    rank, of_alarm, of_group = fresh_stores(patience)
    alarm = Alarm(of_alarm, rank, size)
    try:
        with alarm.armed():
            dist.init_process_group(backend, store=of_group, rank=rank, world_size=size, timeout=patience)
            ranks = Ranks(rank, size, lambda: ranks.any(False))  # unlike dist.barrier, it needs no GPU
            yield ranks
            ranks.wait()
    finally:
        with exits_within(alarm.grace):
            if dist.is_initialized():
                dist.destroy_process_group()


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def fresh_stores(patience: timedelta) -> tuple[int, dist.Store, dist.Store]:
    """Return this process' number and two stores, empty at first, that all processes of this attempt reach; all call it.

    torchrun's store, and what was written into it, outlives an attempt (`--max-restarts`): messages, and addresses where
    nobody listens any more. The two have connections of their own, since one that waits for a key is deaf meanwhile.
    """
    (store, rank, size), (other, _, _) = (next(dist.rendezvous("env://", timeout=patience)) for _ in range(2))
    word = agree(dist.PrefixStore("meeting", store), rank, size, patience)
    return rank, dist.PrefixStore(f"alarm {word}", store), dist.PrefixStore(f"group {word}", other)


def agree(store: dist.Store, rank: int, size: int, patience: timedelta) -> str:
    """Return a word that the first process makes up, on all processes, once the first has met all others.

    The store may hold the words of earlier attempts: so each process asks with a word of its own, which none of those knew.

    Raises:
        RankFailed: some processes did not come.
    """
    word, until = secrets.token_hex(8), time.monotonic() + patience.total_seconds()
    if rank > 0:
        store.set(f"question {rank}", word)
    while not (_all_thanked(store, word, size) if rank == 0 else store.check([f"answer {word}"])):
        if time.monotonic() > until:
            raise RankFailed(f"not all of the {size} processes started within {patience}; see the logs of the others")
        time.sleep(0.05)  # unlike a wait in the store, it lets signals through
    if rank > 0:
        word = store.get(f"answer {word}").decode()
        store.add(f"thanks {word}", 1)
    return word


def _all_thanked(store: dist.Store, word: str, size: int) -> bool:
    """Answer the latest questions with `word`, old ones among them, which nobody waits for; tell whether all have taken it."""
    for question in (f"question {rank}" for rank in range(1, size)):
        if store.check([question]):
            store.set(f"answer {store.get(question).decode()}", word)
    return store.add(f"thanks {word}", 0) >= size - 1
