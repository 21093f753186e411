"""Names of people, cameras, views and tracklets as other programs write them, pandas above all: 1.0 for 1, NaN for unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

UNKNOWN = ("", "nan", "NaN", "<NA>", "NaT")  # what pandas writes for a missing value
_WHOLE = re.compile(r"-?\d+(\.0)?")


def as_name(value: Any) -> str | None:
    """Return a label as text; None for a missing value. A whole number has no decimals.

    >>> as_name(1.0), as_name(7), as_name("Ann"), as_name(float("nan")), as_name(None)
    ('1', '7', 'Ann', None, None)
    """
    if hasattr(value, "item") and not getattr(value, "shape", None):  # a NumPy scalar
        value = value.item()
    if value is None or _is_missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return None if text in UNKNOWN else text


def _is_missing(value: Any) -> bool:
    """Return whether it is NaN, NaT or pandas.NA, which differ from themselves or from everything."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA
        return True


def are_whole_numbers(texts: Iterable[str | None]) -> bool:
    """Return whether all labels of a column are whole numbers, some with a decimal: `1.0` next to an empty one in pandas.

    >>> are_whole_numbers(["1.0", "", "12.0"]), are_whole_numbers(["1.0", "1.1"]), are_whole_numbers(["1", "2"])
    (True, False, False)
    """
    known = [text for text in texts if text and text not in UNKNOWN]
    return any(text.endswith(".0") for text in known) and all(_WHOLE.fullmatch(text) for text in known)


def without_decimals(text: str) -> str:
    """Return a text of `are_whole_numbers` as a whole number.

    >>> without_decimals("12.0"), without_decimals("7")
    ('12', '7')
    """
    return text.removesuffix(".0")
