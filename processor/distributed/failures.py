"""A failure of one rank ends all ranks within seconds, with the message of the rank that failed first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from torch import distributed as dist

from ..runs.signals import Stopped

LOST = (  # phrases for a lost connection in the messages of gloo, NCCL and torch's store
    *("connection closed", "connection was likely closed", "connection reset", "broken pipe", "socket closed"),
    "remote process exiting",
)


class RankFailed(RuntimeError):
    """Another rank failed, so this one stops; the message is that rank's."""


class Alarm:
    """Sends the message of the first rank that fails to all others, even while they wait in a collective operation.

    `torch.distributed.elastic` ends the ranks of one machine only; those of others would wait for the group's timeout.

    Args:
        store: key-value store that all ranks reach; nothing else uses it.
        grace: seconds between the failure of another rank and the end of this process. Its exception usually comes first, but a
            kernel of NCCL raises none in the main thread.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, grace: float = 20.0) -> None:
        self._store, self._rank, self._size, self.grace = store, rank, size, grace
        self._ends = threading.Event()
        self._message = ""  # from the rank that failed first

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Run the body; send its exception to the other ranks.

        Raises:
            RankFailed: the body's exception follows from the failure of another rank.
        """
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        except Stopped:  # all ranks stop together
            raise
        except BaseException as error:
            self._report(error)
            raise
        finally:
            self._ends.set()
            watch.join()

    def _report(self, error: BaseException) -> None:
        """Report `error` to the other ranks. If it only follows from another rank's failure, raise RankFailed with that message."""
        self._ends.set()
        mine = without_message(error) if lost_connection(error) else f"{type(error).__name__}: {error}"
        first = self._send(f"process {self._rank} of {self._size} failed: {mine}")
        if first and in_collective(error):
            raise RankFailed(first) from error
        if lost_connection(error):
            raise RankFailed(mine) from error
        # torch.distributed is an optional part of torch
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)  # for torchrun's summary

    def _send(self, message: str) -> str:
        """Send `message` to the other ranks and give them time to read it: the store may end with this process.

        Returns:
            The message of a rank that failed earlier; "" = none did.
        """
        try:
            first = self._store.compare_set("failed", "", message).decode()
            for _ in range(50):
                if self._store.add("readers", 0) >= self._size - 1:
                    break
                time.sleep(0.1)
        except RuntimeError:  # the store ended with its host, another rank
            return self._message
        return "" if first == message else first

    def _watch(self) -> None:
        while not self._ends.wait(0.3):
            try:
                if not self._store.check(["failed"]):
                    continue
                self._message = self._store.get("failed").decode()
                self._store.add("readers", 1)
            except RuntimeError:  # the store ended with its host; the connections of the process group break as well
                return
            if not self._ends.wait(self.grace):
                sys.stderr.write(f"error: {self._message}\n")
                sys.stderr.flush()
                os._exit(1)


@contextlib.contextmanager
def exits_within(seconds: float) -> Iterator[None]:
    """End the process if the body takes longer: NCCL may wait for operations that other ranks never join."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def without_message(error: BaseException) -> str:
    """Return the message for a rank that ended without one; `error` is the lost connection, with torch's C++ frames cut off."""
    cause = " ".join(str(error).partition("Exception raised from")[0].split())  # NCCL: the cause is in the last line
    return (
        f"another process of this run is gone without a message (killed, or its machine is): {cause[:500]}; see its own log. "
        "Earlier checkpoints are intact; continue with --resume"
    )


def in_collective(error: BaseException) -> bool:
    """Return whether `error` arose in a collective operation; any rank, this one included, may be its cause."""
    return isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def lost_connection(error: BaseException) -> bool:
    """Return whether `error` reports that another rank has left a collective operation."""
    return in_collective(error) and any(phrase in str(error).lower() for phrase in LOST)
