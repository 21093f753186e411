"""One training run per folder at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows: two starts in the same few milliseconds are not told apart there
    fcntl = None  # type: ignore[assignment]

BEAT = 15.0  # seconds between signs of life
PATIENCE = 3 * BEAT


class FolderLock:
    """A file in the folder that names the process working there, and is touched by it every 15 seconds.

    The lock of a dead process is taken over: at once if it ran here (same machine since its start, same container), else once
    the file has been watched for 45 seconds without a sign of life - no clocks are compared, and a pre-empted run goes on
    elsewhere.

    Args:
        path: the lock file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._me = {**_identity(os.getpid()), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="folder-lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            FileExistsError: another live process holds it; names it.
        """
        if not self._try() and not self._try(dead=self._watch()):
            other = self._read()
            raise FileExistsError(
                f"OUTPUT_DIR: {self.path.parent} is in use by process {other.get('pid')} on {other.get('host')}, since "
                f"{other.get('started')}; wait for it, stop it, or choose another OUTPUT_DIR (if you know that it is dead, "
                f"delete {self.path})"
            )
        self._thread.start()

    def _try(self, dead: dict[str, Any] | None = None) -> bool:
        """Write ourselves into the file if nobody, a dead process of this machine, or `dead` is in it."""
        with _opened(self.path) as file:
            other = _parse(file.read())
            if other and other != dead and not _is_dead_here(other):
                return False
            file.seek(0)
            file.truncate()
            json.dump(self._me, file)
            file.flush()
            return True

    def _watch(self) -> dict[str, Any] | None:
        """Return the holder if it gives no sign of life; None if it lives, or its process can be looked up here."""
        other = self._read()
        if _is_here(other):
            return None
        first, until = self._touched(), time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(min(1.0, BEAT / 3))
            if self._touched() != first:
                return None
        return other

    def _read(self) -> dict[str, Any]:
        try:
            return _parse(self.path.read_text())
        except FileNotFoundError:
            return {}

    def _touched(self) -> float:
        try:
            with open(self.path) as file:  # opening makes a network file system look again
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return 0.0

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Give the folder free; nothing happens if it was not ours."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._read() == self._me:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Open the file for one process at a time."""
    while True:
        with open(path, "a+", encoding="utf-8") as file:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue  # its owner deleted it meanwhile
            file.seek(0)
            yield file
            return


def _parse(text: str) -> dict[str, Any]:
    """Return what the lock file says; {} if it is empty or was cut short."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _identity(pid: int) -> dict[str, Any]:
    """Return what tells a process from all others, now and later, here and elsewhere."""
    return {"pid": pid, "host": socket.gethostname(), "boot": _boot(), "space": _space(), "ticks": _start_ticks(pid)}


def _boot() -> str:
    """Return a word that the machine made up when it started: copies of a virtual machine have one name; "" = unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _space() -> str:
    """Return which processes this one can see: containers of one name do not see each other's."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_ticks(pid: int) -> int:
    """Return when the process started, so that a later one of the same number is not taken for it; 0 = unknown or dead."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _is_here(other: dict[str, Any]) -> bool:
    theirs = (other.get("host"), other.get("boot", ""), other.get("space"))  # earlier files do not tell "boot": watched
    return theirs == (socket.gethostname(), _boot(), _space())


def _is_dead_here(other: dict[str, Any]) -> bool:
    """Tell whether the process ran here and does no more."""
    if not _is_here(other):
        return False
    return not _exists(other["pid"]) or _start_ticks(other["pid"]) != other["ticks"]


def _exists(pid: int) -> bool:
    if os.name == "nt":  # where a signal of 0 is a Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
