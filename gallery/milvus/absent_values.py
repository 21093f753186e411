"""Unknown values in Milvus: null; or, before Milvus 2.5, which has no null, an empty text and the lowest number."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pyarrow as pa

from ..storage.records_file import CORE

NULL, EMPTY = "null", "empty"  # how a collection keeps them, in its gallery's metadata
NULL_SINCE = (2, 5)
NOTHING, EVERYTHING = "id < 0", "id >= 0"  # ids are never negative
LOWEST = -sys.float_info.max  # an unknown time where there is no null
TEXTS = tuple(item.name for item in CORE if pa.types.is_string(item.type))


def form_for(version: str) -> str:
    """Return how a Milvus of this version keeps unknown values.

    >>> form_for("v2.3.5"), form_for("2.5.4-lite"), form_for("unknown")
    ('empty', 'null', 'null')
    """
    found = re.search(r"(\d+)\.(\d+)", version)
    return EMPTY if found and (int(found[1]), int(found[2])) < NULL_SINCE else NULL


def is_absent(column: str, form: str) -> str:
    """Return the condition that a value is unknown, in Milvus' filter language."""
    if form == NULL:
        return f"{column} is null"
    if column == "id":
        return NOTHING  # every row has one
    if column == "time":
        return f"(time == {LOWEST!r})"
    return f'({column} == "")' if column in TEXTS else f"(not exists {column})"


def stored(row: dict[str, Any], form: str) -> dict[str, Any]:
    """Return a row in Milvus' form: unknown values are absent, but in the columns of CORE, which every row has."""
    known = {name: value for name, value in row.items() if not _is_unknown(value)}
    if form == NULL:
        return {name: None for name in row if name in CORE.names} | known
    fields = {name: LOWEST if name == "time" else "" for name in row if name in CORE.names}
    return fields | known


def restored(row: dict[str, Any], form: str) -> dict[str, Any]:
    """Return a row of Milvus with None for the unknown values."""
    if form == NULL:
        return row
    return {name: None if value == "" or (name == "time" and value == LOWEST) else value for name, value in row.items()}


def _is_unknown(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))
