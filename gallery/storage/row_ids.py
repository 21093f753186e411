"""Ids and positions of rows, as callers give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ...common.errors import UserError

Ids: TypeAlias = Sequence[int] | np.ndarray


def as_ids(values: Any, what: str = "ids") -> np.ndarray:
    """Return whole numbers (n,) as int64; one number is a list of it.

    A mask of booleans or a column of floats would name other rows than the caller means.

    >>> as_ids([3, 1]).tolist(), as_ids(np.float64(4)).tolist()
    ([3, 1], [4])

    Args:
        what: name of the argument, for errors.
    Raises:
        UserError: a boolean, a fraction, a text, or anything else that is no whole number.
    """
    array = np.asarray(values).reshape(-1)
    items = values if isinstance(values, list | tuple) else array if array.dtype.kind == "O" else ()
    if array.dtype.kind == "b" or any(isinstance(item, bool | np.bool_) for item in items):
        raise UserError(
            f"{what}: whole numbers, got booleans; a mask of rows is turned into ids by gallery.ids[mask], into positions by "
            "np.flatnonzero(mask)"
        )
    if not array.size:
        return np.empty(0, np.int64)
    try:
        if array.dtype.kind in "SU":
            raise TypeError("text")
        with np.errstate(invalid="ignore"):  # NaN; it is found below
            whole = array.astype(np.int64)
        is_equal = bool((whole == array).all())
    except (TypeError, ValueError, OverflowError):
        is_equal = False
    if not is_equal:
        raise UserError(f"{what}: whole numbers, got {_first_wrong(array)!r}")
    return whole


def _first_wrong(array: np.ndarray) -> Any:
    """Return the first element that is no whole number."""
    for value in array.tolist():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value % 1:
            return value
    return array.tolist()[0]
