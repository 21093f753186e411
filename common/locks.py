"""One writer at a time."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

FILE = ".lock"
log = logging.getLogger(__name__)


class WriterLock:
    """Keeps other processes, and other locks of this process, from writing to a folder; may be nested.

    The system frees the lock of a killed process.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._thread = threading.RLock()
        self._depth = 0
        self._handles: list[int] = []

    def __enter__(self) -> WriterLock:
        self._thread.acquire()
        try:
            if self._depth == 0:
                self._handles = [_acquire(self.path)]
            self._depth += 1
        except BaseException:
            self._thread.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            if _is_at(self._handles[-1], self.path):
                self.path.unlink()  # while still held, so that no process holds an unlinked file
            for handle in self._handles:
                os.close(handle)
            self._handles = []
        self._thread.release()

    def extend(self, folder: Path) -> None:
        """Also lock another folder, which is about to replace this one, until the `with` ends."""
        self._handles.append(_acquire(folder / FILE))


def _acquire(path: Path) -> int:
    """Return the handle of the locked file.

    Raises:
        BlockingIOError: another writer has it; names its process.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
        except BaseException:
            os.close(handle)
            raise
        if _is_at(handle, path):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()} ({Path(sys.argv[0]).name or 'python'})".encode())
            return handle
        os.close(handle)  # the earlier holder removed the file, or moved the folder, between the two calls


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        log.warning("%s: no file locks on this system; make sure that only one process writes", path)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 200).decode(errors="replace") or "unknown"
        raise BlockingIOError(
            f"{path.parent} is being written by process {holder}; wait until it is done, or stop it"
        ) from None


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
