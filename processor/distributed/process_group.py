"""The ranks that torchrun started: rank and size, collective decisions, start and end of the process group."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from .failures import Alarm, RankFailed, exits_within

T = TypeVar("T")
TIMEOUT = timedelta(minutes=60)  # longest wait for another rank; rank 0 ranks a large gallery alone, say


@dataclass(frozen=True)
class Ranks:
    """One rank of `size` that share the work; by default a single process.

    The methods are collective: every rank calls them, in the same order.

    Args:
        rank: number of this process; rank 0 does the work that is done once.
        wait: returns once all ranks have called it.
        group: torch's process group; None = all ranks.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], object] = lambda: None
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this rank does the work that is done once."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return, on all ranks, whether `flag` is true on at least one."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        dist.all_reduce(votes, group=self.group)
        return bool(votes)

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank, on all ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 only and return its result on all ranks."""
        values: list[Any] = [make() if self.is_first else None]
        if self.size > 1:
            source = 0 if self.group is None else dist.get_global_rank(self.group, 0)
            dist.broadcast_object_list(values, src=source, group=self.group)
        return values[0]

    def of_machine(self) -> Ranks:
        """Return the ranks that torchrun started on this machine, numbered from 0."""
        machines = self.gather_objects(
            (socket.gethostname(), self.rank - local_rank())
        )  # torchrun counts them in one go
        if self.size == 1:
            return self
        own = ALONE
        for machine in sorted(set(machines)):
            members = [rank for rank, other in enumerate(machines) if other == machine]
            group = dist.new_group(members, timeout=TIMEOUT, backend="gloo") if len(members) > 1 else None
            if group is not None and self.rank in members:
                own = _in_group(members.index(self.rank), len(members), group)
        return own


ALONE = Ranks()


def _in_group(rank: int, size: int, group: Any = None) -> Ranks:
    ranks = Ranks(rank, size, lambda: ranks.any(False), group)  # unlike dist.barrier, it needs no GPU
    return ranks


@contextlib.contextmanager
def joined_ranks(timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Yield this process' place among the ranks that torchrun started; each rank gets one GPU, if there are any.

    Tensors on a GPU travel through NCCL, others through gloo. The ranks leave together; if one fails, the others fail
    within seconds.

    Raises:
        RankFailed: another rank failed, was killed, or did not start.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    with_cuda = torch.cuda.is_available()
    if with_cuda:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if with_cuda and dist.is_nccl_available() else "gloo"
    rank, alarm_store, group_store = fresh_stores(timeout)
    alarm = Alarm(alarm_store, rank, size)
    try:
        with alarm.armed():
            dist.init_process_group(backend, store=group_store, rank=rank, world_size=size, timeout=timeout)
            ranks = _in_group(rank, size)
            yield ranks
            ranks.wait()
    finally:
        with exits_within(alarm.grace):
            if dist.is_initialized():
                dist.destroy_process_group()


def local_rank() -> int:
    """Return this process' number among the ranks of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def fresh_stores(timeout: timedelta) -> tuple[int, dist.Store, dist.Store]:
    """Return this rank's number and two empty stores that all ranks of this attempt reach: (rank, alarm, group). Collective.

    Each store has its own connection, because a connection blocked in a wait cannot serve other requests.
    """
    (store, rank, size), (other, _, _) = (next(dist.rendezvous("env://", timeout=timeout)) for _ in range(2))
    token = agree_on_token(dist.PrefixStore("meeting", store), rank, size, timeout)
    return rank, dist.PrefixStore(f"alarm {token}", store), dist.PrefixStore(f"group {token}", other)


def agree_on_token(store: dist.Store, rank: int, size: int, timeout: timedelta) -> str:
    """Agree on a fresh key prefix; rank 0 returns once it has met all others.

    Rank 0 draws a random token; every other rank posts a nonce and rank 0 answers it, because torchrun's store survives
    restarts (`--max-restarts`) and may hold old tokens.

    Raises:
        RankFailed: some ranks did not start in time.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + timeout.total_seconds()
    if rank > 0:
        store.set(f"nonce {rank}", token)
    while not (_all_have(store, token, size) if rank == 0 else store.check([f"answer {token}"])):
        if time.monotonic() > deadline:
            raise RankFailed(f"not all of the {size} processes started within {timeout}; see the logs of the others")
        time.sleep(0.05)  # unlike a wait in the store, it lets signals through
    if rank > 0:
        token = store.get(f"answer {token}").decode()
        store.add(f"received {token}", 1)
    return token


def _all_have(store: dist.Store, token: str, size: int) -> bool:
    """Answer the latest nonces with `token`; return whether all ranks have received it."""
    for key in (f"nonce {rank}" for rank in range(1, size)):
        if store.check([key]):
            store.set(f"answer {store.get(key).decode()}", token)
    return store.add(f"received {token}", 0) >= size - 1
