"""One writer at a time, through the system's file locks: they end with the process, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor

from .forked_processes import watch_forks
from .inputs.regular_files import open_own, read_text

FILE = ".lock"
HOLDER_BYTES = 2**12  # of a lock file, which names its process
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class WriterLock:
    """Keeps other processes, and other objects of this one, from writing into a folder; a `with` may be nested."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._thread = threading.RLock()
        self._depth = 0
        self._handles: list[int] = []
        watch_forks(self)

    def after_fork(self) -> None:
        """Hold nothing in a child of `fork`: the lock stays with the parent."""
        for handle in self._handles:
            with suppress(OSError):
                os.close(handle)
        self._thread, self._depth, self._handles = threading.RLock(), 0, []

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
            unlock_file(self.path, *reversed(self._handles))
            self._handles = []
        self._thread.release()

    def extend(self, folder: Path) -> None:
        """Lock another folder too, which is about to replace this one, until the `with` ends."""
        self._handles.append(_acquire(folder / FILE))


def _acquire(path: Path) -> int:
    """Return the handle of the locked file.

    Raises:
        BlockingIOError: another writer holds the lock; names its process.
        PermissionError: nothing can be written into the folder; names it.
        NotRegularFileError: a link, a pipe or a device is in the place of the lock file.
    """
    try:
        handle = lock_file(path)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        why = f"nothing can be written into {path.parent} ({error.strerror})"
        raise PermissionError(f"{why}; copy it to a folder in which you may write, and change the copy") from error
    if handle is None:
        holder = "unknown"
        with suppress(OSError, ValueError):  # Windows does not let others read a locked file
            holder = read_text(path, HOLDER_BYTES, errors="replace")[:200] or holder
        raise BlockingIOError(f"{path.parent} is being written by process {holder}; wait until it is done, or stop it")
    write_holder(handle, f"{os.getpid()} ({Path(sys.argv[0]).name or 'python'})")
    return handle


def lock_file(path: Path) -> int | None:
    """Return the handle of the locked file at `path`, made if it does not exist; None = another process holds the lock.

    Raises:
        OSError: the file system has no locks, or nothing can be written into the folder.
        NotRegularFileError: a link, a pipe or a device has this name.
    """
    while True:
        handle, keeps = open_own(path, os.O_RDWR | os.O_CREAT), False
        try:
            if not lock_descriptor(handle, blocking=False):
                return None
            keeps = _is_at(handle, path)  # else the earlier holder has removed the file, or moved its folder
            if keeps:
                return handle
        finally:
            if not keeps:
                os.close(handle)


def write_holder(handle: int, text: str) -> None:
    """Replace the content of a locked file, which names the holder."""
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text.encode())


def unlock_file(path: Path, *handles: int) -> None:
    """Remove the file at `path` if it is that of the first handle, and close all handles."""
    if _is_at(handles[0], path):
        with suppress(PermissionError):  # Windows keeps a file that is open
            path.unlink()  # before it is closed, so that nobody locks a file without a name
    for handle in handles:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
