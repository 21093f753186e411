"""Warn about filter values that no row has, which are probably mistyped, and list the existing values."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.gallery_reader import GalleryReader
from .filters import Where

logger = logging.getLogger(__name__)
SHOWN = 8  # values named in a message
COMPARED = 2000  # values of a column that are compared with the absent ones
KEPT = 10_000  # values remembered as looked for


def warn_of_absent(
    gallery: GalleryReader, conditions: Where, keep: np.ndarray | None, looked_for: set[tuple[str, str]]
) -> None:
    """Log the texts in conditions with = or != that no live row has.

    Args:
        conditions: typed.
        keep: (N,) bool, the live rows; None = all.
        looked_for: (column, value) pairs of earlier calls, which are skipped; those of this call are added.
    """
    for condition in conditions.conditions:
        column = condition.column
        values = [value for value in condition.texts(gallery.schema) if (column, value) not in looked_for]
        if absent := _absent(_live(gallery, column, keep), values):
            present = {text for part in _live(gallery, column, keep) for text in pc.unique(part).to_pylist() if text}
            logger.warning("%s", _message(column, absent, sorted(present)))
        if len(looked_for) > KEPT:
            looked_for.clear()
        looked_for.update((column, value) for value in values)


def _live(gallery: GalleryReader, column: str, keep: np.ndarray | None) -> Iterator[pa.ChunkedArray]:
    """Yield a column of the live rows, one row group at a time."""
    start = 0
    for batch in gallery.batches([column]):
        stop = start + len(batch)
        yield batch[column] if keep is None else batch[column].filter(pa.array(keep[start:stop]))
        start = stop


def _absent(parts: Iterable[pa.ChunkedArray], values: Sequence[str]) -> list[str]:
    """Return the values that are in no part; reading stops when all are found, usually after the first part."""
    left = set(values)
    if not left:
        return []
    for part in parts:
        wanted = pa.array(sorted(left), part.type)
        left -= set(pc.unique(part.filter(pc.is_in(part, value_set=wanted))).to_pylist())
        if not left:
            break
    return sorted(left)


def _message(column: str, absent: Sequence[str], present: Sequence[str]) -> str:
    named = ", ".join(map(repr, absent[:SHOWN])) + (f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else "")
    if not present:
        return f"where: no row has {column} {named}; it is unknown for all rows, so leave the condition out"
    closest = sorted(present[:COMPARED], key=lambda value: -max(_likeness(value, other) for other in absent[:SHOWN]))
    others = f" and {len(present) - SHOWN} more" if len(present) > SHOWN else ""
    return (
        f"where: no row has {column} {named}; there are {', '.join(closest[:SHOWN])}{others}; "
        "correct the condition if it is mistyped"
    )


def _likeness(left: str, right: str) -> float:
    """Return the similarity of two texts, 0 … 1, ignoring case."""
    return SequenceMatcher(None, left.lower(), right.lower(), autojunk=False).ratio()
