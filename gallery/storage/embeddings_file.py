"""embeddings.npy: rows appended in place, read through a memory map, or without one.

The number of valid rows is in gallery.json; the file's own header is for other programs.

A map ends the process (SIGBUS) if another program cuts the file short while its rows are read. So its length is looked up before
each block, which leaves a moment between the look and the reading. A server, which must not end, reads without a map: it keeps
the rows in memory, or reads them block by block with `os.preadv`, where a file that is too short is an error.
"""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from ...common.errors import UserError
from ...common.inputs.regular_files import check_regular, open_own, open_regular
from ...common.memory_limits import available_memory
from .file_names import EMBEDDINGS

CACHE_LINE = 64  # bytes
HEADER_BYTES = 128  # room for any shape of two dimensions; the rows start on a cache line
BLOCK_BYTES = 2**24
NEAR_BYTES = 2**14  # rows that are closer to each other in the file are read at once
MEMORY_PARTS = 4  # rows are kept in memory if they fit into one of so many parts of what is available
MAPPED, KEPT, READ = "mapped", "kept", "read"
WAYS = (MAPPED, KEPT, READ)  # of reading the rows; see `open_rows`


def header(count: int, dimension: int, dtype: str) -> bytes:
    """Return the first HEADER_BYTES of an .npy file (version 1.0) with `count` rows."""
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': ({count}, {dimension}), }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(HEADER_BYTES - 11) + b"\n"


class Written(NamedTuple):
    """What gallery.json says of the rows: their number, their CRC-32, and that of the last one (None = unknown)."""

    num_rows: int
    checksum: int
    last_row: int | None


def append_rows(path: Path, before: Written, parts: Iterable[np.ndarray], dimension: int, dtype: str) -> Written:
    """Write rows after those of `before`, which stay unchanged; rows after them, of an interrupted call, are overwritten.

    Args:
        parts: blocks (n, dimension) of rows of `dtype`.
    Raises:
        OSError: the disk is full, or the file holds fewer rows; names the file.
    """
    try:
        return _append_rows(path, before, parts, dimension, dtype)
    except OSError as error:
        if error.errno is None:  # our own message
            raise
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}; free some space. The gallery is unchanged"
        ) from error


def cut_rows(path: Path, count: int, dimension: int, dtype: str) -> None:
    """Remove the rows after the first `count`, of a call that failed, so that they take no space."""
    with os.fdopen(open_own(path, os.O_RDWR), "r+b") as file:
        file.truncate(HEADER_BYTES + count * dimension * np.dtype(dtype).itemsize)
        _write_header(file, count, dimension, dtype)


def _append_rows(path: Path, before: Written, parts: Iterable[np.ndarray], dimension: int, dtype: str) -> Written:
    count, checksum, last_row = before
    start = HEADER_BYTES + count * dimension * np.dtype(dtype).itemsize
    handle = open_own(path, os.O_RDWR | (0 if count else os.O_CREAT | os.O_TRUNC))
    with os.fdopen(handle, "r+b") as file:
        if count and (size := file.seek(0, os.SEEK_END)) < start:
            raise OSError(f"{path} is cut short: {size} bytes instead of {start}; see vitreid.gallery.verify")
        _write_header(file, count, dimension, dtype)
        file.truncate(start)
        file.seek(start)
        for rows in parts:
            file.write(_bytes(rows))
            count, checksum = count + len(rows), zlib.crc32(_bytes(rows), checksum)
            last_row = zlib.crc32(_bytes(rows[-1:])) if len(rows) else last_row
        _write_header(file, count, dimension, dtype)
    return Written(count, checksum, last_row)


def _write_header(file: BinaryIO, count: int, dimension: int, dtype: str) -> None:
    """Write the header after everything written before has reached the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    file.write(header(count, dimension, dtype))
    file.flush()
    os.fsync(file.fileno())


def _bytes(rows: np.ndarray) -> memoryview | bytes:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data if rows.size else b""


def map_rows(path: Path, count: int, dimension: int, dtype: str) -> np.ndarray:
    """Return the first `count` rows (count, D) as a read-only memory map.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is too short for `count` rows; gives both sizes.
    """
    _check_size(path, count, dimension, dtype)
    return np.memmap(path, dtype, "r", HEADER_BYTES, (count, dimension)) if count else np.empty((0, dimension), dtype)


def _check_size(path: Path, count: int, dimension: int, dtype: str) -> None:
    if not count:
        return
    row = dimension * np.dtype(dtype).itemsize
    try:
        check_regular(path)
        size = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; restore it or export again") from None
    if size < HEADER_BYTES + count * row:
        raise UserError(
            f"{path} is cut short: {size} bytes hold {max(0, size - HEADER_BYTES) // row} of {count} rows; "
            "restore it or export again"
        )


class CutShortError(OSError):
    """Another program cut the file short."""


class FileRows:
    """Rows (count, D) that are read from the file when they are asked for; the file stays open.

    It has the shape, the type and the slices of an array. Its methods raise CutShortError if the file is too short.
    """

    def __init__(self, path: Path, count: int, dimension: int, dtype: str | np.dtype[Any]) -> None:
        self.path, self.shape, self.dtype = path, (count, dimension), np.dtype(dtype)
        self.ndim, self.itemsize, self.row_bytes = 2, self.dtype.itemsize, dimension * self.dtype.itemsize
        self.nbytes = count * self.row_bytes
        self._file = open_regular(path)
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        """Return consecutive rows, or those at some positions (n,) from 0 on, in new memory (n, D)."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            return self.read(start, max(start, stop))[::step]
        return self._gathered(np.asarray(places, np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def read(self, start: int, stop: int, memory: np.ndarray | None = None) -> np.ndarray:
        """Return the rows from `start` to `stop`.

        Args:
            memory: (n, D) of the same type, n >= stop - start, that they are written into; None = new memory.
        """
        rows = empty_rows(stop - start, self.shape[1], self.dtype) if memory is None else memory[: stop - start]
        place, view = HEADER_BYTES + start * self.row_bytes, _bytes(rows)
        while len(view):
            count = os.preadv(self._file.fileno(), [view], place)
            if not count:
                raise self._cut_short()
            place, view = place + count, view[count:]
        return rows

    def _gathered(self, places: np.ndarray) -> np.ndarray:
        """Read the rows at some positions, those that are near each other at once."""
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"positions {places.min()} to {places.max()} of {len(self)} rows in {self.path}")
        rows, order = np.empty((len(places), self.shape[1]), self.dtype), np.argsort(places, kind="stable")
        ordered, block = places[order], max(1, BLOCK_BYTES // self.row_bytes)
        is_far = np.diff(ordered) > max(1, NEAR_BYTES // self.row_bytes)
        ends = np.flatnonzero(is_far | (np.diff(ordered // block) > 0)) + 1
        for near in np.split(order, ends):
            if len(near):
                first = int(places[near[0]])
                rows[near] = self.read(first, int(places[near[-1]]) + 1)[places[near] - first]
        return rows

    def _cut_short(self) -> CutShortError:
        return cut_short(self.path.name, os.fstat(self._file.fileno()).st_size, HEADER_BYTES + self.nbytes)


Rows: TypeAlias = np.ndarray | FileRows


def empty_rows(count: int, dimension: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return memory for rows (count, D) that starts on a cache line, as in the file; products of other rows take 1.4 times as long."""
    size = count * dimension * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(count, dimension)


def cut_short(name: str, size: int, expected: int) -> CutShortError:
    """Return the error for a file of `size` bytes that had `expected`, or more, when it was opened."""
    return CutShortError(
        f"{name} was cut short by another program: {size} of {expected} bytes are left; restore it or export again"
    )


def has_rows(path: Path, count: int, dimension: int, dtype: str) -> bool:
    """Return whether the file is there and long enough for `count` rows."""
    try:
        return not count or path.stat().st_size >= HEADER_BYTES + count * dimension * np.dtype(dtype).itemsize
    except OSError:
        return False


class Known(NamedTuple):
    """Rows that are in memory, and their CRC-32."""

    rows: np.ndarray
    checksum: int


def open_rows(
    path: Path, written: Written, dimension: int, dtype: str, way: str = MAPPED, known: Known | None = None
) -> Rows:
    """Return the rows (count, D) of an embeddings.npy; they cannot be changed.

    Args:
        way: "mapped": through a memory map. "kept": in memory if they fit into a quarter of what is available, else "read". "read":
            from the file, whenever they are asked for.
        known: rows of an earlier state; if the file begins with them, only the others are read into memory.
    Raises:
        as `map_rows`; CutShortError if another program cuts the file short meanwhile.
    """
    _check_size(path, written.num_rows, dimension, dtype)
    if way == MAPPED or not written.num_rows or not hasattr(os, "preadv"):  # Windows cuts no file short that is mapped
        return map_rows(path, written.num_rows, dimension, dtype)
    rows = FileRows(path, written.num_rows, dimension, dtype)
    room = available_memory() + (known.rows.nbytes if known else 0)
    if way == READ or rows.nbytes > room // MEMORY_PARTS:
        return rows
    kept = _lengthened(known, rows, written.checksum) if known is not None else None
    kept = rows[:] if kept is None else kept
    kept.setflags(write=False)
    return kept


def _lengthened(known: Known, rows: FileRows, checksum: int) -> np.ndarray | None:
    """Return the known rows and those that follow them in the file; None if the file does not begin with them.

    Args:
        checksum: CRC-32 of all rows.
    """
    count, *width = known.rows.shape
    if count > len(rows) or width != [rows.shape[1]] or known.rows.dtype != rows.dtype:
        return None
    more = rows[count:]
    if zlib.crc32(_bytes(more), known.checksum) != checksum:
        return None
    if not len(more):
        return known.rows
    together = empty_rows(len(rows), rows.shape[1], rows.dtype)
    together[:count], together[count:] = known.rows, more
    return together


def check_last_row(path: Path, rows: Rows, checksum: int | None) -> None:
    """Raise UserError if the last row is not the one that was written: a copy made during a write mixes two states.

    Args:
        checksum: CRC-32 of the row; None = unknown.
    """
    if checksum is not None and len(rows) and zlib.crc32(_bytes(rows[-1:])) != checksum:
        raise UserError(
            f"{path} holds other rows than gallery.json says; copy the folder again, while nobody writes into it"
        )


def belong_to(path: Path, rows: Rows, checksum: int, mark: tuple[int, int] | None) -> bool:
    """Return whether records that were written for other rows fit these; then all rows are read.

    An addition that was interrupted, or failed, leaves records of more rows than gallery.json says.

    Args:
        checksum: of the rows.
        mark: count and checksum of the rows for which the records were written; None = unknown, which is accepted.
    """
    if mark is None or mark == (len(rows), checksum):
        return True
    count, expected = mark
    if count <= len(rows) or checksum_of(rows) != checksum:
        return False
    size = HEADER_BYTES + count * rows.dtype.itemsize * rows.shape[1]
    if path.stat().st_size < size:  # a failed addition takes its rows back
        return True
    return checksum_of(open_rows(path, Written(count, expected, None), rows.shape[1], rows.dtype.str, READ)) == expected


def check_length(rows: Rows) -> None:
    """Raise CutShortError if the file behind mapped rows has become too short; reading them would end the process (SIGBUS)."""
    root: Any = rows
    while isinstance(root, np.ndarray) and not isinstance(root, mmap.mmap):
        root = root.base
    if isinstance(root, mmap.mmap) and (size := root.size()) < len(root):
        raise cut_short(EMBEDDINGS, size, len(root))


def blocks(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Yield consecutive blocks of about BLOCK_BYTES as (start, rows); raise CutShortError as `check_length`."""
    step = max(1, BLOCK_BYTES // max(1, rows.itemsize * rows.shape[1]))
    for start in range(0, len(rows), step):
        check_length(rows)
        yield start, rows[start : start + step]


def checksum_of(rows: Rows) -> int:
    """Return the CRC-32 of the rows, read block by block."""
    checksum = 0
    for _, block in blocks(rows):
        checksum = zlib.crc32(_bytes(block), checksum)
    return checksum
