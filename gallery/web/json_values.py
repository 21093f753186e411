"""What the server says: plain JSON types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

NAMES = {True: "same", False: "different", None: "unknown"}


def plain(value: Any) -> Any:
    """Return a value of a record as JSON has it: no NaN, dates as ISO 8601, anything strange as text.

    >>> plain({"a": float("nan"), "b": [1, 2.5]})
    {'a': None, 'b': [1, 2.5]}
    """
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value).encode("utf-8", "replace").decode()


def match(id: int, distance: float, is_match: bool | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of a ranked list."""
    return {"id": int(id), "distance": float(distance), "verdict": NAMES[is_match], "record": plain(record)}
