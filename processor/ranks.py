"""The processes that torchrun started: which one this is, what they decide together, and how one's failure reaches all."""

from __future__ import annotations

import contextlib
import os
import secrets
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
LEFT = (  # in the messages of gloo, NCCL and torch's store
    "connection closed",
    "connection was likely closed",
    "connection reset",
    "broken pipe",
    "socket closed",
    "remote process exiting",
)


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
            self._hand_on(error)
            raise
        finally:
            self._left.set()
            watch.join()

    def _hand_on(self, error: BaseException) -> None:
        """Tell the others of `error`; raise RankFailed if it only follows from what happened to another process."""
        follows = lost_connection(error)
        if follows:
            self._heard.wait(5.0)  # the message travels another way than the broken connection
        if follows and self._message:
            raise RankFailed(self._message) from error
        mine = of_silence(error) if follows else f"{type(error).__name__}: {error}"
        first = self._ring(mine)
        if first and of_connections(error):  # whatever it says, another process failed before
            raise RankFailed(first) from error
        if follows:
            raise RankFailed(mine) from error

    def _ring(self, message: str) -> str:
        """Tell the others, and give them time to hear it: the store may end with this process.

        Returns:
            What another process told before; "" if none did.
        """
        self._left.set()
        mine = f"process {self._rank} of {self._size} failed: {message}"
        try:
            with self._lock:
                first = self._store.compare_set("failed", "", mine).decode()
        except RuntimeError:  # the store is gone: so is the process that held it
            return ""
        for _ in range(50):
            with contextlib.suppress(RuntimeError), self._lock:
                if self._store.add("heard", 0) >= self._size - 1:
                    break
            time.sleep(0.1)
        return "" if first == mine else first

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


def of_silence(error: BaseException) -> str:
    """Return the message for a process that is gone; `error` is what was noticed of it."""
    return (
        f"another process of this run is gone without a word (killed, or its machine is): {one_line(error)}; see its own "
        "log. Earlier checkpoints are intact; continue with --resume"
    )


def one_line(error: BaseException) -> str:
    """Return the message of an error of torch without its list of C++ functions: NCCL tells the cause in its last line."""
    return " ".join(str(error).partition("Exception raised from")[0].split())[:500]


def of_connections(error: BaseException) -> bool:
    """Return whether `error` arose where processes work together; the cause may be in any of them, this one included."""
    return isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def lost_connection(error: BaseException) -> bool:
    """Return whether `error` tells that another process has left a collective operation."""
    return of_connections(error) and any(words in str(error).lower() for words in LEFT)
