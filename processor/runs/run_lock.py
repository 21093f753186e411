"""One training run per folder at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from ...common.inputs.regular_files import open_own, open_regular, read_json
from ...common.locks import HOLDER_BYTES, lock_file, unlock_file, write_holder

BEAT = 15.0  # seconds between heartbeats
PATIENCE = 3 * BEAT


class FolderLock:
    """A locked file in the folder that names its process, with a heartbeat: its time changes every 15 seconds.

    The lock of a dead process is free at once on the same machine. Not every network file system passes locks on, and the
    leases of filelock take the processes of two machines of one name for each other's; so the lock of another machine is
    free after 45 seconds without a heartbeat. No clocks are compared.

    Args:
        path: the lock file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="folder-lock", daemon=True)
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            FileExistsError: another live process holds it; names it.
        """
        try:
            handle, has_locks = lock_file(self.path), True
        except OSError:  # a file system without locks
            handle, has_locks = open_own(self.path, os.O_RDWR | os.O_CREAT), False
        other = self._read()
        # versions before filelock wrote "ticks" and held no lock
        is_free = has_locks and other.get("boot") == _boot() and "ticks" not in other
        if handle is None or (other and not is_free and self._has_heartbeat()):
            if handle is not None:
                os.close(handle)
            raise FileExistsError(
                f"OUTPUT_DIR: {self.path.parent} is in use by process {other.get('pid')} on {other.get('host')}, since "
                f"{other.get('started')}; wait for it, stop it, or choose another OUTPUT_DIR (if you know that it is dead, "
                f"delete {self.path})"
            )
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        own = {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot(), "started": started}
        write_holder(handle, json.dumps(own))
        self._handle = handle
        self._thread.start()

    def _has_heartbeat(self) -> bool:
        first, until = self._touched(), time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(min(1.0, BEAT / 3))
            if self._touched() != first:
                return True
        return False

    def _read(self) -> dict[str, Any]:
        """Return the content of the lock file; {} if it is empty, cut short, or cannot be read (Windows)."""
        try:
            found = read_json(self.path, HOLDER_BYTES)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _touched(self) -> float:
        try:
            with open_regular(self.path) as file:  # opening makes a network file system look again
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return 0.0

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._handle is None:
            return
        self._ended.set()
        self._thread.join()
        unlock_file(self.path, self._handle)
        self._handle = None


def _boot() -> str:
    """Return the random id of the machine's start, which copies of a virtual machine do not share; else the host's name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
