"""The rows of a source by their keys, compared with a gallery before anything is embedded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...keeping.exported_rows import read_exported, source_name, write_exported
from ...keeping.row_keys import COLUMNS, are_in, as_keys, digest_of, keys_of
from ...storage.gallery import Gallery
from ..export_plan import size_and_date
from ..source_rows import Source, SourceRow

CHUNK = 4096  # rows of which the keys are computed at once


@dataclass(frozen=True, eq=False)
class SourceKeys:
    """The rows of a source.

    Args:
        name: of the source, as `source_name`.
        keys: (N,) of `keys_of`.
        stamps: (N,) digests of size and date of the image files.
    """

    name: str
    keys: pa.Array
    stamps: pa.Array


def scan(source: Source, text: str) -> SourceKeys:
    """Read the rows of a source once.

    Args:
        text: the source as given by the user.
    """
    keys, stamps = bytearray(), bytearray()
    rows = source.rows()
    while part := list(itertools.islice(rows, CHUNK)):
        keys += b"".join(keys_of(as_table([row.to_dict() for row in part]), Path.cwd()).to_pylist())
        stamps += b"".join(digest_of(repr(size_and_date(row.path))) for row in part)
    return SourceKeys(source_name(text), as_keys(bytes(keys)), as_keys(bytes(stamps)))


def as_table(records: list[dict[str, Any]]) -> pa.Table:
    """Return the columns of records that their keys are made of."""
    return pa.table({name: [record.get(name) for record in records] for name in COLUMNS if name in records[0]})


class Comparison:
    """What an update does with each of the N rows of a source.

    Attributes:
        suppressed: (N,) bool, removed from the gallery earlier; they stay out.
        changed: (N,) bool, in the gallery, from an image file that has changed since; they are embedded again.
        present: (N,) bool, in the gallery.
        new: (N,) bool, the others.
    """

    def __init__(self, gallery: Gallery, found: SourceKeys) -> None:
        self.gallery, self.found = gallery, found
        self.exported = read_exported(gallery.path)
        self.suppressed = gallery.is_suppressed(found.keys)
        in_gallery = are_in(found.keys, gallery.live_keys()) & ~self.suppressed
        known = dict(zip(self.exported["key"].to_pylist(), self.exported["stamp"].to_pylist(), strict=True))
        pairs = zip(found.keys.to_pylist(), found.stamps.to_pylist(), strict=True)
        self.changed = in_gallery & np.array([known.get(key, stamp) != stamp for key, stamp in pairs], bool)
        self.present = in_gallery & ~self.changed
        self.new = ~in_gallery & ~self.suppressed

    @cached_property
    def missing(self) -> np.ndarray:
        """(k,) ids of live rows that an earlier export took from this source, and that it does not name any more."""
        own = np.array([name == self.found.name for name in self.exported["source"].to_pylist()], bool)
        came = self.exported["key"].combine_chunks().filter(pa.array(own))
        keys, live = self.gallery.keys(), self.gallery.is_live
        return self.gallery.ids[live & are_in(keys, came) & ~are_in(keys, self.found.keys)]

    @property
    def by_hand(self) -> np.ndarray:
        """(k,) ids of live rows that no export has brought and that the source does not name: added by hand, or merged."""
        keys, live = self.gallery.keys(), self.gallery.is_live
        came = self.exported["key"].combine_chunks()
        return self.gallery.ids[live & ~are_in(keys, came) & ~are_in(keys, self.found.keys)]


class ChosenRows:
    """Some rows of a source; itself a source.

    Args:
        chosen: (N,) bool, of all rows.
    """

    def __init__(self, source: Source, chosen: np.ndarray) -> None:
        self.extra, self.num_readers = source.extra, source.num_readers
        self._source, self._chosen = source, chosen.tolist()

    def rows(self) -> Iterator[SourceRow]:
        """Yield the chosen rows."""
        return itertools.compress(self._source.rows(), self._chosen)

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of a row."""
        return self._source.read(row)


def write_found(gallery: Gallery, found: SourceKeys) -> None:
    """Write which rows of the gallery the source has; what other sources have stays."""
    there = pa.array(are_in(found.keys, gallery.live_keys()))
    earlier = read_exported(gallery.path)
    write_exported(gallery.path, found.name, found.keys.filter(there), found.stamps.filter(there), earlier)
