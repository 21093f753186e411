"""Keys of rows: what makes a row the same in another export or another gallery."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEY_BYTES = 16
KEY_TYPE = pa.binary(KEY_BYTES)
BOX = ("frame", "x", "y", "width", "height")
COLUMNS = ("path", "video", *BOX, "time")  # that the keys are made of


def digest_of(value: str | bytes) -> bytes:
    """Return KEY_BYTES bytes that stand for a text or other bytes (BLAKE2b)."""
    content = value.encode(errors="surrogatepass") if isinstance(value, str) else value
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def keys_of(records: pa.Table, folder: Path) -> pa.FixedSizeBinaryArray:
    """Return the keys (N,) of records: a digest of their recording or image, and of the frame and the box in it.

    The image counts by its absolute path; links among its folders are followed. The crop of a track is a copy, so such a row
    counts by its recording. What a live stream has shown counts by its time, too, since each connection counts frames from 0.

    Args:
        records: a column `path`, and of `video`, `frame`, `x`, `y`, `width`, `height` and `time` those that there are.
        folder: where relative paths start.
    """
    count, place_of = len(records), _places(folder)
    values = {name: records[name].to_pylist() if name in records.column_names else [None] * count for name in COLUMNS}
    found = bytearray()
    for path, video, *box, time in zip(*values.values(), strict=True):
        numbers = [_number(value) for value in box]
        if isinstance(video, str) and video and numbers[0]:
            place = f"{video}\0{_number(time)}" if "://" in video else place_of(video)
        else:
            place = place_of(path)
        found += digest_of("\0".join([place, *numbers]))
    return as_keys(bytes(found))


def as_keys(content: bytes) -> pa.FixedSizeBinaryArray:
    """Return keys (N,) from their bytes, one key after the other."""
    return pa.FixedSizeBinaryArray.from_buffers(KEY_TYPE, len(content) // KEY_BYTES, [None, pa.py_buffer(content)])


def are_in(keys: pa.Array, others: pa.Array) -> np.ndarray:
    """Return (N,) bool: which keys (N,) are among others (M,)."""
    if not len(others):
        return np.zeros(len(keys), bool)
    return pc.is_in(keys, value_set=others).to_numpy(zero_copy_only=False)


def key_columns(names: Iterable[str]) -> list[str]:
    """Return those of a gallery's columns that keys are made of."""
    there = set(names)
    return [name for name in COLUMNS if name in there]


def _places(folder: Path) -> Callable[[str], str]:
    """Return a function path -> absolute path; each folder is looked up once."""
    known: dict[str, str] = {}

    def place(path: str) -> str:
        head, tail = os.path.split(path)
        if head not in known:
            known[head] = os.path.realpath(os.path.join(folder, head))
        return os.path.join(known[head], tail)

    return place


def _number(value: Any) -> str:
    """Return a number of a box, to a hundredth of a pixel, so that float32 and float64 agree; "" if it is missing."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "" if value is None else str(value)
    return "" if math.isnan(number) else f"{number:.2f}"
