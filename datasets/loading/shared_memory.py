"""One array for all processes that one machine trains with: a file in memory, mapped by each, filled by all.

The processes find each other by a note beside the file, named after the job and the images. As soon as all have
mapped the file its name is removed, so that the memory is given back when the last of them ends, however it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds that a process waits for the others to come
PREFIX = "vitreid-images-"
MEMORY = "/dev/shm"  # a folder whose files lie in memory, on Linux
_COMING, _HERE, _DONE, _FAILED = range(4)
_JOB = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")


class SharingError(RuntimeError):
    """Another process of this machine failed or stayed away while the images were decoded."""


@dataclass(frozen=True)
class Local:
    """A process among those that torchrun started on this machine.

    Args:
        rank: its number here, 0 to size - 1; 0 makes the file.
        job: what tells this job from others on the machine.
    """

    rank: int
    size: int
    job: str


def find_local() -> Local | None:
    """Return this process's place among those of this machine as torchrun tells it; None = alone here, or on Windows."""
    size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    parent = (
        "" if "TORCHELASTIC_RUN_ID" in os.environ else str(os.getppid())
    )  # each may have been started by a shell of its own
    job = ":".join([*(os.environ.get(name, "") for name in _JOB), parent])
    return Local(int(os.environ["LOCAL_RANK"]), size, job) if size > 1 and os.name == "posix" else None


def share_array(
    shape: tuple[int, ...],
    local: Local,
    content: str,
    fill: Callable[[np.ndarray, Iterable[int]], None],
    refuse: Callable[[], str],
) -> np.ndarray | str:
    """Return a uint8 array that all local processes share, or why there is none, the same in each.

    All of them call this, with the same arguments but for `local.rank`.

    Args:
        content: what tells this array from others of the same job.
        fill: fills the given rows of the array; each process is asked for its share of them.
        refuse: why there shall be no array, empty = there shall be one; the first process is asked, for all.
    Raises:
        SharingError: another process failed, ended or did not come.
        Exception: what `fill` raised here.
    """
    note = _note(f"{local.job}\n{content}\n{shape}")
    made = _make(note, int(np.prod(shape)), local.size, refuse()) if local.rank == 0 else _find(note)
    board, array = _map(Path(made["path"]), local.size)
    meeting = _Meeting(board, local.rank)
    try:
        meeting.tell(_HERE)
        meeting.wait_for_all(_HERE)
    finally:
        if local.rank == 0:
            _remove(note)
    if made["why"]:
        return made["why"]
    array = array.reshape(shape)
    try:
        fill(array, range(local.rank, shape[0], local.size))
    except BaseException:
        meeting.tell(_FAILED)
        raise
    meeting.tell(_DONE)
    meeting.wait_for_all(_DONE)
    return array


class _Meeting:
    """Who has come how far: a row (process id, state) per local process, at the start of the shared file."""

    def __init__(self, board: np.ndarray, rank: int) -> None:
        self.board, self.rank = board, rank

    def tell(self, state: int) -> None:
        """Show the others how far this process is."""
        self.board[self.rank] = os.getpid(), state

    def wait_for_all(self, state: int) -> None:
        """Return once every process is as far as `state`; those that have come may take any time, if they live.

        Raises:
            SharingError: one failed, ended or did not come.
        """
        until = time.monotonic() + PATIENCE
        while (self.board[:, 1] < state).any():
            self._check(late=time.monotonic() > until)
            time.sleep(0.01)
        self._check(late=False)

    def _check(self, late: bool) -> None:
        for rank, (pid, state) in enumerate(self.board.tolist()):
            if state == _FAILED:
                raise SharingError(
                    f"process {rank} of this machine could not decode its images; its own message says why"
                )
            if state != _DONE and pid and not _lives(pid):
                raise SharingError(
                    f"process {rank} of this machine (pid {pid}) ended while images were decoded; was it killed, or out of "
                    "memory? Start again, with DATALOADER.CACHE off if the memory is short"
                )
            if state == _COMING and late:
                raise SharingError(
                    f"process {rank} of this machine did not come within {PATIENCE:.0f} s; start all again"
                )


def _note(what: str) -> Path:
    """Return where this machine's processes of a job tell each other of an array, in a folder that is best its own."""
    folder = MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir()
    key = hashlib.sha256(f"{socket.gethostname()}\n{what}".encode()).hexdigest()[:24]
    return Path(folder) / f"{_own_notes()}{key}.json"


def _own_notes() -> str:
    """Return how the names of notes begin whose process ids mean something here: not those of other users or containers."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        processes = 0
    return f"{PREFIX}{os.getuid()}-{processes}-"


def _make(note: Path, size: int, num_processes: int, why: str) -> dict[str, Any]:
    """Make the file, with room for no more than the board if there is a reason why not, and the note about it."""
    _sweep(note)
    board = _board_size(num_processes)
    if not why:
        path, why = _allocate(board + size)
    if why:
        path, problem = _allocate(board)
        if problem:
            raise SharingError(problem)
    about = {"pid": os.getpid(), "path": path, "why": why}
    half = note.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps(about))
    half.replace(note)  # the others see nothing or all of it
    return about


def _find(note: Path) -> dict[str, Any]:
    """Wait for the note of the first process."""
    until = time.monotonic() + PATIENCE
    while (about := _read(note)) is None or not _lives(about["pid"]):
        if time.monotonic() > until:
            raise SharingError(
                f"the first process of this machine made no room for the images within {PATIENCE:.0f} s; did it stop? "
                "Its own message says why"
            )
        time.sleep(0.01)
    return about


def _allocate(size: int) -> tuple[str, str]:
    """Reserve a file of `size` bytes in memory, or else in the temporary folder: (path, "") or ("", why not)."""
    tried: list[str] = []
    for folder in dict.fromkeys([MEMORY, tempfile.gettempdir()]):
        if not os.path.isdir(folder):
            continue
        handle, path = tempfile.mkstemp(prefix=PREFIX, suffix=".pixels", dir=folder)
        try:
            _reserve(handle, size)
            if tried:
                log.warning("%s; decoded images are kept in a file in %s, which may be slow", "; ".join(tried), folder)
            return path, ""
        except OSError as error:  # no space, a quota
            os.unlink(path)
            hint = "; in a container, raise --shm-size" if folder == MEMORY else ""
            tried.append(f"{folder} has no room for {size / 1e6:,.0f} MB ({error.strerror}{hint})")
        finally:
            os.close(handle)
    return "", "; ".join(tried)


def _reserve(handle: int, size: int) -> None:
    """Take the space now: a file that only grows when written would end the process by a signal, without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def _map(path: Path, num_processes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the board (processes, 2) int64 and the uint8 behind it; both live on without the file's name."""
    with open(path, "r+b") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
    return mapped[: 16 * num_processes].view(np.int64).reshape(-1, 2), mapped[_board_size(num_processes) :]


def _board_size(num_processes: int) -> int:
    return -(-16 * num_processes // 4096) * 4096  # the pixels begin on a page of their own


def _sweep(note: Path) -> None:
    """Remove what jobs that were killed before all had come left behind, and this job's own note of earlier."""
    for old in note.parent.glob(f"{_own_notes()}*.json"):
        about = _read(old)
        if old == note or (about is not None and not _lives(about["pid"])):
            _remove(old)


def _remove(note: Path) -> None:
    about = _read(note)
    if about is not None and about["path"]:
        _unlink(Path(about["path"]))
    _unlink(note)


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # gone already, or another user's
        path.unlink()


def _read(note: Path) -> dict[str, Any] | None:
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process of that number
        return True
    return True
