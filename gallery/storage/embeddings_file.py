"""embeddings.npy: rows appended in place, read through a memory map.

The number of valid rows is in gallery.json; the file's own header is for other programs.

A map ends the process (SIGBUS) if another program cuts the file short while its rows are read. So its length is looked up before
each block. Reading the blocks with `os.preadv` would close the moment that remains, and takes 1.5 to 3.8 times as long:
the copy costs as much as the comparison (100,000 x 768 float32).
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ...common.errors import UserError
from ...common.inputs.regular_files import check_regular, open_own
from .file_names import EMBEDDINGS

HEADER_BYTES = 128  # room for any shape of two dimensions; the rows start on a cache line
BLOCK_BYTES = 2**24


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
    if not count:
        return np.empty((0, dimension), dtype)
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
    return np.memmap(path, dtype, "r", HEADER_BYTES, (count, dimension))


def check_last_row(path: Path, rows: np.ndarray, checksum: int | None) -> None:
    """Raise UserError if the last row is not the one that was written: a copy made during a write mixes two states.

    Args:
        checksum: CRC-32 of the row; None = unknown.
    """
    if checksum is not None and len(rows) and zlib.crc32(_bytes(rows[-1:])) != checksum:
        raise UserError(
            f"{path} holds other rows than gallery.json says; copy the folder again, while nobody writes into it"
        )


def belong_to(path: Path, rows: np.ndarray, checksum: int, mark: tuple[int, int] | None) -> bool:
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
    return checksum_of(np.memmap(path, rows.dtype, "r", HEADER_BYTES, (count, rows.shape[1]))) == expected


class CutShortError(OSError):
    """The file behind a memory map was cut short by another program."""


def check_length(rows: np.ndarray) -> None:
    """Raise CutShortError if the file behind mapped rows has become too short; reading them would end the process (SIGBUS)."""
    root: Any = rows
    while isinstance(root, np.ndarray) and not isinstance(root, mmap.mmap):
        root = root.base
    if isinstance(root, mmap.mmap) and root.size() < len(root):
        raise CutShortError(f"{EMBEDDINGS} was cut short by another program; restore it or export again")


def blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield consecutive blocks of about BLOCK_BYTES as (start, rows); raise CutShortError as `check_length`."""
    step = max(1, BLOCK_BYTES // max(1, rows.itemsize * rows.shape[1]))
    for start in range(0, len(rows), step):
        check_length(rows)
        yield start, rows[start : start + step]


def checksum_of(rows: np.ndarray) -> int:
    """Return the CRC-32 of the rows, read block by block."""
    checksum = 0
    for _, block in blocks(rows):
        checksum = zlib.crc32(_bytes(block), checksum)
    return checksum
