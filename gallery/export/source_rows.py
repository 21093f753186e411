"""What all sources of images yield: rows in a fixed order, and the pixels of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ...datasets import read_image
from ...datasets.readers.box_crops import Box, cut_still, is_still
from ..storage.records_file import CORE

FIELDS = ("path", "pid", "camera", "view", "time", "tracklet")  # of a SourceRow
BOX = ("x", "y", "width", "height")  # columns of a box: upper left corner and size, pixels


@dataclass(frozen=True)
class SourceRow:
    """One image of a source.

    Args:
        path: the image, or the video with the box.
        pid, camera, view, tracklet: names; None = unknown.
        time: seconds, since 1970 if it is a date; None = unknown.
        extra: further columns.
    """

    path: str
    pid: str | None = None
    camera: str | None = None
    view: str | None = None
    time: float | None = None
    tracklet: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a record of a gallery."""
        own = {key: getattr(self, key) for key in FIELDS}
        return {**own, **self.extra}


class Source(Protocol):
    """Rows in a fixed order, and the pixels of each.

    `extra` maps further columns to str, int or float; `num_readers` threads may read at once.
    """

    extra: dict[str, type]
    num_readers: int

    def rows(self) -> Iterator[SourceRow]:
        """Yield all rows, from the first with each call."""
        ...

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the row's (H, W, 3) uint8 RGB pixels; raise CorruptImageError or OSError if they cannot be read."""
        ...


def record_schema(extra: Mapping[str, type]) -> pa.Schema:
    """Return the columns of a gallery's records: those of every gallery, then a source's further ones."""
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema([*CORE, *((name, types[kind]) for name, kind in extra.items())])


def box_of(row: SourceRow) -> Box | None:
    """Return the box of a row; None if it has none, or only a part of one, or is a picture that was cut out of a frame."""
    if row.extra.get("frame") is not None and is_still(row.path):
        return None
    values = [row.extra.get(name) for name in BOX]
    return None if None in values else Box(*values)  # type: ignore[arg-type]


class ImageFiles:
    """A source of image files, by default without further columns; several threads read it."""

    extra: dict[str, type] = {}  # noqa: RUF012
    num_readers = min(16, os.cpu_count() or 1)

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of the file, or those of its box."""
        box = box_of(row)
        return read_image(row.path) if box is None else cut_still(row.path, box)
