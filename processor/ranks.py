"""The processes that torchrun started: which one this is, what they decide together, and how one's failure reaches all."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from .signals import Stopped

T = TypeVar("T")


class RankFailed(RuntimeError):
    """Another process of the run failed, so this one stops, too; the message is that process' message."""


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
        RankFailed: another process failed, or was killed.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    with_cuda = torch.cuda.is_available()
    if with_cuda:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    alarm = Alarm.of_environment(patience)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if with_cuda and dist.is_nccl_available() else "gloo", timeout=patience
    )
    ranks = Ranks(dist.get_rank(), size)
    ranks = Ranks(ranks.rank, size, lambda: ranks.any(False))  # unlike dist.barrier, it needs no GPU
    try:
        with alarm.armed():
            yield ranks
            ranks.wait()
    finally:
        with exits_within(alarm.grace):
            dist.destroy_process_group()


@contextlib.contextmanager
def exits_within(seconds: float) -> Iterator[None]:
    """End the process should the body take longer: NCCL may wait for operations that others will never join."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class Alarm:
    """Carries the message of the first process that fails to all others, past whatever they wait for.

    Args:
        store: key-value store that all processes reach; used by nothing else.
        grace: seconds that a process has for ending by itself once another has failed; its main thread may wait in a
            place that no exception reaches, as in a kernel of NCCL.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, grace: float = 20.0) -> None:
        self._store, self._rank, self._size, self.grace = store, rank, size, grace
        self._lock = threading.Lock()
        self._left, self._heard = threading.Event(), threading.Event()
        self._message = ""

    @classmethod
    def of_environment(cls, patience: timedelta) -> Alarm:
        """Return the alarm of the processes that torchrun's environment variables describe."""
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))
        return cls(dist.PrefixStore("alarm", store), rank, size)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Run the body: its exception becomes that of all processes, and another's failure becomes its exception."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        except Stopped:  # all processes stop together
            raise
        except BaseException as error:
            if not lost_connection(error):
                self._ring(f"{type(error).__name__}: {error}")
                raise
            self._heard.wait(5.0)  # the message travels another way than the broken connection
            raise RankFailed(self._message or self._of_silence()) from error
        finally:
            self._left.set()
            watch.join()

    def _of_silence(self) -> str:
        return (
            "another process of this run is gone without a word (killed, or its machine is); see its own log. Earlier "
            "checkpoints are intact; continue with --resume"
        )

    def _ring(self, message: str) -> None:
        """Tell the others, and give them time to hear it: the store may end with this process."""
        self._left.set()
        with contextlib.suppress(RuntimeError), self._lock:  # the store is gone: so is the process that held it
            self._store.compare_set("failed", "", f"process {self._rank} of {self._size} failed: {message}")
        for _ in range(50):
            with contextlib.suppress(RuntimeError), self._lock:
                if self._store.add("heard", 0) >= self._size - 1:
                    return
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._left.wait(0.3):
            try:
                with self._lock:
                    if not self._store.check(["failed"]):
                        continue
                    self._message = self._store.get("failed").decode()
                    self._store.add("heard", 1)
            except RuntimeError:  # the store ended with its process, whose connections break as well
                return
            self._heard.set()
            if not self._left.wait(self.grace):
                sys.stderr.write(f"error: {self._message}\n")
                sys.stderr.flush()
                os._exit(1)


def lost_connection(error: BaseException) -> bool:
    """Return whether `error` tells that another process has left a collective operation."""
    return isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
