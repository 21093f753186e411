"""Failures of one rank reach all others."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from torch import distributed as dist

from ..runs.signals import Stopped

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
