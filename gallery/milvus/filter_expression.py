"""Translate conditions on records to Milvus' filter language."""

from __future__ import annotations

import json
import math
import sys

from ...common.errors import UserError
from ..search.filters import Condition, Where
from ..search.time_of_day import TimeOfDay
from .absent_values import EVERYTHING, LOWEST, NOTHING, NULL, is_absent


def as_expression(where: Where, form: str = NULL) -> str:
    """Return typed conditions in Milvus' filter language; `form` is that of unknown values.

    >>> as_expression(Where.of({"camera!=": "c1", "time>=": 5}))
    '(camera not in ["c1"] or camera is null) and time >= 5'
    """
    return " and ".join(_as_expression(condition, form) for condition in where.conditions)


def _as_expression(condition: Condition | TimeOfDay, form: str) -> str:
    if isinstance(condition, TimeOfDay):
        raise UserError(
            f"where: {condition.column} is not computed in Milvus; search the gallery's folder, or give ranges of time for each day"
        )
    name, absent = condition.column, is_absent(condition.column, form)
    if condition.operator not in ("=", "!="):
        found = _range(name, condition.operator, condition.values[0])
        return found if form == NULL or name != "time" else f"({found} and time > {LOWEST!r})"
    known = [value for value in condition.values if value is not None and not _is_infinite(value)]
    values, is_absent_named = json.dumps(known, ensure_ascii=False), None in condition.values
    if condition.operator == "=":
        parts = [f"{name} in {values}"] * bool(known) + [absent] * is_absent_named
        return f"({' or '.join(parts)})" if parts else NOTHING
    parts = [f"{name} not in {values}"] * bool(known)
    if is_absent_named:
        return f"({' and '.join([*parts, f'not {absent}'])})"
    return f"({' or '.join([*parts, absent])})" if parts else EVERYTHING


def _range(name: str, operator: str, value: object) -> str:
    """Return a comparison. Milvus cannot read infinities, and no row holds one: the largest number replaces them."""
    if not _is_infinite(value):
        return f"{name} {operator} {json.dumps(value)}"
    is_beyond = (operator[0] == ">") == (value > 0)  # type: ignore[operator]
    edge = math.copysign(sys.float_info.max, value)  # type: ignore[arg-type]
    return f"{name} {operator[0]}{'' if is_beyond else '='} {edge!r}"


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)
