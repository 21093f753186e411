"""Cameras and views in searches: a bare c1 finds market1501/c1, the rule of `labels.camera_names`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from ...labels.camera_names import find_rows
from ..storage.gallery_reader import GalleryReader
from .filters import Condition, Where

COLUMNS, OPERATORS = ("camera", "view"), ("=", "!=")
GROUPS = 32  # row groups read at once


def with_known_names(gallery: GalleryReader, conditions: Where) -> Where:
    """Return typed conditions with the names of cameras and views as the gallery has them; a name that fits none, or several, stays."""

    def known(condition: Any) -> Any:
        if (
            not isinstance(condition, Condition)
            or condition.column not in COLUMNS
            or condition.operator not in OPERATORS
        ):
            return condition
        values = [value for value in condition.values if value is not None]
        found = dict(zip(values, as_known(gallery, condition.column, values), strict=True))
        return replace(condition, values=tuple(found.get(value, value) for value in condition.values))

    return replace(conditions, conditions=tuple(map(known, conditions.conditions)))


def as_known(gallery: GalleryReader, column: str, names: Sequence[str]) -> list[str]:
    """Return the names as the gallery's column has them."""
    parts = gallery.batches([column], GROUPS)
    known = sorted({name for part in parts for name in pc.unique(part[column]).to_pylist() if name})
    return [name if row < 0 else known[row] for name, row in zip(names, find_rows(names, known), strict=True)]
