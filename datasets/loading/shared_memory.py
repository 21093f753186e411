"""One array for all ranks of a machine: a file in memory that every rank maps and fills in part.

The file is empty while it has a name. So a killed rank leaves no memory behind: the system frees the array when the last
rank that maps it ends.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np

log = logging.getLogger(__name__)

PREFIX = "vitreid-images-"
MEMORY = "/dev/shm"  # nosec B108 - on Linux, files in this folder lie in memory; they are made by tempfile, for this user only
T = TypeVar("T")


class LocalRanks(Protocol):
    """The ranks of one machine; every method is collective among them."""

    @property
    def rank(self) -> int:
        """This rank's number on the machine, 0 to size - 1."""

    @property
    def size(self) -> int:
        """Number of ranks on the machine."""

    def from_first(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 and return its result on every rank."""

    def wait(self) -> object:
        """Return once every rank has called it."""


def share_array(
    shape: tuple[int, ...],
    local: LocalRanks,
    fill: Callable[[np.ndarray, Iterable[int]], None],
    refuse: Callable[[], str],
) -> np.ndarray | str:
    """Return a uint8 array that the local ranks share, or the reason why there is none, equal on every rank. Collective.

    The process group, not this function, reports a rank that fails or is killed.

    Args:
        fill: fills the given rows of the array; each rank fills its share.
        refuse: reason against the array; empty = none. Rank 0 decides for all.
    """
    if why := local.from_first(refuse):
        return why
    size, problems = int(np.prod(shape)), list[str]()
    for folder in local.from_first(_folders):
        handle = _open_together(folder, local)
        try:
            problem = local.from_first(lambda handle=handle: _reserve(handle, size))  # type: ignore[misc]
            if not problem:
                array = np.frombuffer(mmap.mmap(handle, size), np.uint8).reshape(shape)
                break
        finally:
            os.close(handle)
        hint = "; in a container, raise --shm-size" if folder == MEMORY else ""
        problems.append(f"{folder} has no room for {size / 1e6:,.0f} MB ({problem}{hint})")
    else:
        return "; ".join(problems)
    if problems:
        log.warning("%s; decoded images are kept in a file in %s, which may be slow", "; ".join(problems), folder)
    fill(array, range(local.rank, shape[0], local.size))
    local.wait()
    return array


def _folders() -> list[str]:
    """Return the folders to try, the one in memory first."""
    folders = dict.fromkeys([MEMORY, tempfile.gettempdir()])
    return [folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.W_OK)]


def _open_together(folder: str, local: LocalRanks) -> int:
    """Return a handle of one new, empty file that every local rank has opened; its name is removed."""
    path = local.from_first(lambda: _new_file(folder))
    try:
        handle = os.open(path, os.O_RDWR)
        local.wait()
    finally:
        if local.rank == 0:
            os.unlink(path)
    return handle


def _new_file(folder: str) -> str:
    handle, path = tempfile.mkstemp(prefix=PREFIX, suffix=".pixels", dir=folder)
    os.close(handle)
    return path


def _reserve(handle: int, size: int) -> str:
    """Allocate `size` bytes for the file now, because a write without space ends a process by a signal.

    Returns:
        The system's reason against it, such as a quota; empty = allocated.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            os.ftruncate(handle, size)
    except OSError as error:
        return error.strerror or str(error)
    return ""
