"""Keys of rows: what makes a row the same in another export or another gallery."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
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
    names = key_columns(records.column_names)
    if not names or not len(records):
        return as_keys(b"")
    place = pa.array(_located(records["path"].to_pylist(), folder), pa.string())
    numbers = [_numbers(records[name]) if name in names else _unknown(len(records)) for name in (*BOX, "time")]
    if "video" in names:
        videos, frames = records["video"].to_pylist(), numbers[0].is_valid().to_pylist()
        recorded = [isinstance(video, str) and bool(video) and has for video, has in zip(videos, frames, strict=True)]
        streams = [is_video and "://" in video for video, is_video in zip(videos, recorded, strict=True)]
        chosen = [video if is_video else None for video, is_video in zip(videos, recorded, strict=True)]
        files = _located([video or "" for video in chosen], folder)
        found = [name if is_stream else file for name, file, is_stream in zip(chosen, files, streams, strict=True)]
        place = pc.if_else(pa.array(recorded), pa.array(found, pa.string()), place)
        numbers[-1] = pc.if_else(pa.array(streams), numbers[-1], pa.scalar(None, pa.string()))
    else:
        numbers[-1] = _unknown(len(records))
    texts = pc.binary_join_element_wise(place, *numbers, "\0", null_handling="replace", null_replacement="")
    return as_keys(b"".join(digest_of(text) for text in texts.cast(pa.binary()).to_pylist()))


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


def _located(paths: Iterable[str], folder: Path) -> list[str]:
    """Return absolute paths, with links among the folders followed; each folder is looked up once."""
    known: dict[tuple[str, str], str] = {}
    found = []
    for path in paths:
        head, mark, tail = path.rpartition("/")
        if (head, mark) not in known:
            known[head, mark] = os.path.realpath(os.path.join(folder, head + mark)).rstrip("/") + "/"
        found.append(known[head, mark] + tail)
    return found


def _unknown(count: int) -> pa.Array:
    return pa.nulls(count, pa.string())


def _numbers(column: pa.ChunkedArray) -> pa.Array:
    """Return a column (N,) as text: numbers in whole hundredths, so that float32 and float64 agree; null = missing."""
    values = column.combine_chunks()
    if not pa.types.is_integer(values.type) and not pa.types.is_floating(values.type):
        return pa.array([_number(value) for value in values.to_pylist()], pa.string())
    floats = values.cast(pa.float64())
    floats = pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64()))
    return pc.round(pc.multiply(floats, 100)).cast(pa.int64(), safe=False).cast(pa.string())


def _number(value: Any) -> str | None:
    try:
        return str(round(float(value) * 100))
    except (TypeError, ValueError, OverflowError):
        return None if value is None else str(value)
