"""Numbers and names in words."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(value: float, digits: int = 1) -> str:
    """Return e.g. "57.1%", and "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}%"


def interval(low: float, high: float) -> str:
    """Return e.g. "51.0% to 57.1%", and "-" for an interval without width: equal queries tell nothing about other ones.

    >>> interval(0.51, 0.571), interval(0.0, 0.0)
    ('51.0% to 57.1%', '-')
    """
    return "-" if low == high or math.isnan(low) else f"{percent(low)} to {percent(high)}"


def points(value: float, digits: int = 1) -> str:
    """Return a difference of two shares in percentage points, with its sign: "+1.2"; "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:+.{digits}f}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return camera names without the data set in front, where they still differ then.

    >>> short_names(["market1501/c1", "market1501/c2"]), short_names(["a/c1", "b/c1"])
    (['c1', 'c2'], ['a/c1', 'b/c1'])
    """
    short = [name.rsplit("/", 1)[-1] for name in names]
    return short if len(set(short)) == len(short) else list(names)
