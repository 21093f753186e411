"""Filters of a search: conditions on columns of the records, e.g. `camera=c1,c2`, `time>=2026-01-01T08:00`, `time_of_day>=08:00`."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from ...common.text import to_seconds
from . import time_of_day
from .time_of_day import TimeOfDay

RANGES = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
OPERATORS = ("=", "!=", *RANGES)
_CONDITION = re.compile(r"\s*([^=!<>]*[^=!<>\s])\s*(!=|<=|>=|==|=|<|>)(.*)", re.DOTALL)
_KEY = re.compile(r"\s*([^=!<>]*[^=!<>\s])\s*(!=|<=|>=|==|=|<|>)?\s*")


@dataclass(frozen=True)
class Condition:
    """One column compared with values.

    Args:
        column: its name.
        operator: "=", any of the values; "!=", none of them; or <, <=, >, >= with one value.
        values: as given; None and "" mean unknown.
    """

    column: str
    operator: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise UserError(f"where: unknown operator {self.operator!r}; choose from {' '.join(OPERATORS)}")
        if self.operator in RANGES and (len(self.values) != 1 or self.values[0] in (None, "")):
            raise UserError(f"where: {self.column}{self.operator} takes one value, got {list(self.values)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    def typed(self, schema: pa.Schema) -> Condition | TimeOfDay:
        """Return the condition with its values converted to the column's type.

        Raises:
            ValueError: a value does not fit the column; names its type.
        """
        if self.column == time_of_day.NAME and self.column not in schema.names:
            return TimeOfDay.parse(self.operator, self.values, schema)
        kind = _type_of(self.column, schema.field(self.column).type)
        if pa.types.is_nested(kind):
            raise _not_comparable(self.column, kind)
        if self.operator in RANGES and (_is_text(kind) or pa.types.is_boolean(kind)):
            raise UserError(f"where: {self.column} holds {kind}, which has no order for {self.operator}; use = or !=")
        return Condition(self.column, self.operator, tuple(_cast(value, self.column, kind) for value in self.values))

    def texts(self, schema: pa.Schema) -> list[str]:
        """Return the texts of a typed condition with = or != on a text column; empty for other conditions."""
        if self.operator in RANGES or not _is_text(schema.field(self.column).type):
            return []
        return [value for value in self.values if value is not None]

    def mask_of(self, records: pa.Table) -> np.ndarray:
        """Return (N,) bool: the records that fulfil the typed condition; as `mask`."""
        return self.mask(records[self.column]).to_numpy()

    def mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return (N,) bool for a column (N,), given typed values; unknown values of the column pass only != and `column=`.

        Raises:
            ValueError: Arrow cannot compare values of the column's type.
        """
        try:
            return self._mask(column.cast(_type_of(self.column, column.type)))
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:  # dictionaries, half floats, …
            raise _not_comparable(self.column, column.type) from error

    def _mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        # pyarrow.dataset expressions are no shorter, since unknown values need the same code, and no faster (22 ms for 2**19 rows)
        if self.operator in RANGES:
            return pc.fill_null(RANGES[self.operator](column, pa.scalar(self.values[0], column.type)), False)
        known = pa.array([value for value in self.values if value is not None], column.type)
        found = pc.is_in(column, value_set=known)
        if None in self.values:
            found = pc.or_(found, is_unknown(column))
        return found if self.operator == "=" else pc.invert(found)


@dataclass(frozen=True)
class Where:
    """Conditions that must all hold.

    Args:
        conditions: none = all records.
        hints: log the values that no record has, with similar ones; for a person at a terminal, not for a server.
    """

    conditions: tuple[Condition | TimeOfDay, ...] = ()
    hints: bool = True

    @classmethod
    def of(cls, what: Where | str | Mapping[str, Any] | Iterable[str] | None) -> Where:
        """Return conditions given as text, a list of texts or a dictionary; None = no conditions."""
        if isinstance(what, Where):
            return what
        if isinstance(what, Mapping):
            return cls.from_dict(what)
        return cls.parse([what] if isinstance(what, str) else what or ())

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Where:
        """Return conditions written as `column=value,value`, `!=`, or with <, <=, >, >= and one value.

        A value with a comma is written in double quotes; `pid=` selects the records with unknown pid.

        >>> Where.parse(["camera!=c1,c2"]).conditions
        (Condition(column='camera', operator='!=', values=('c1', 'c2')),)

        Raises:
            ValueError: a text has another form.
        """
        return cls(tuple(_parse(text) for text in texts))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Where:
        """Return the conditions of `{"camera": ["c1"], "pid!=": "7", "time": (start, end), "time>=": start}`.

        A tuple is a range from its first to its second value, both included; None = open on that side.
        """
        return cls(tuple(condition for key, value in values.items() for condition in _from_item(key, value)))

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the conditions read."""
        return list(dict.fromkeys(name for condition in self.conditions for name in condition.columns))

    def check_columns(self, known: Sequence[str]) -> None:
        """Raise ValueError, listing the known columns, if a column is not among `known`."""
        for name in (condition.column for condition in self.conditions):
            if name not in known and name != time_of_day.NAME:
                raise UserError(f"where: no column {name!r}; the records have {', '.join(known)}")

    def typed(self, schema: pa.Schema) -> Where:
        """Return the conditions with values converted to the columns' types; raise ValueError where that fails."""
        self.check_columns(schema.names)
        typed = (one.typed(schema) if isinstance(one, Condition) else one for one in self.conditions)
        return Where(tuple(typed), self.hints)

    def mask(self, records: pa.Table) -> np.ndarray:
        """Return (N,) bool: records that fulfil all conditions.

        Raises:
            ValueError: a column is missing, or a value does not fit it.
        """
        return self.typed(records.schema).typed_mask(records)

    def typed_mask(self, records: pa.Table) -> np.ndarray:
        """Return `mask(records)`, given typed conditions."""
        masks = [condition.mask_of(records) for condition in self.conditions]
        return reduce(np.logical_and, masks, np.ones(len(records), bool))


def is_unknown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return (N,) bool: null, NaN, or empty text."""
    missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    return pc.or_(missing, pc.fill_null(pc.equal(column, ""), False)) if _is_text(column.type) else missing


def _parse(text: str) -> Condition:
    parts = _CONDITION.fullmatch(text)
    if parts is None:
        raise UserError(f"where: cannot read {text!r}; write column=value, e.g. camera=c1,c2 or time>=2026-01-31T08:00")
    column, operator, value = parts.groups()
    try:
        values = next(csv.reader([value.strip()], skipinitialspace=True)) or [""]
    except csv.Error as error:
        raise UserError(f"where: cannot read the values of {text!r}: {error}; separate them by commas") from error
    if operator in RANGES:
        values = [value.strip()]
    return Condition(column, "=" if operator == "==" else operator, tuple(item.strip() for item in values))


def _from_item(key: str, value: Any) -> list[Condition]:
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise UserError(
            f"where: cannot read the key {key!r}; give a column, or one with an operator such as 'camera!='"
        )
    column, operator = parts[1], parts[2] or "="
    if isinstance(value, tuple) and operator == "=":
        return _range(column, value)
    is_list = isinstance(value, Sequence | set | frozenset | np.ndarray) and not isinstance(value, str)
    return [Condition(column, "=" if operator == "==" else operator, tuple(value) if is_list else (value,))]


def _range(column: str, ends: tuple[Any, ...]) -> list[Condition]:
    if len(ends) != 2:
        raise UserError(f"where: {column} takes a range of two values (first, last) or a list of values, got {ends}")
    if column == time_of_day.NAME and None not in ends:  # may lead over midnight
        return [Condition(column, "=", (f"{ends[0]}-{ends[1]}",))]
    return [
        Condition(column, operator, (end,)) for operator, end in zip((">=", "<="), ends, strict=True) if end is not None
    ]


def _cast(value: Any, column: str, kind: pa.DataType) -> Any:
    """Return a value converted to the type `kind`; None if it means unknown, as "" and NaN do."""
    if value is None or value == "":
        return None
    try:
        if column == "time":
            return to_seconds(value)
        cast = pa.scalar(value.item() if isinstance(value, np.generic) else value).cast(kind).as_py()
        return None if isinstance(cast, float) and math.isnan(cast) else cast
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise UserError(f"where: {column} holds {kind}, got {value!r} ({error})") from error
    except OverflowError as error:
        raise UserError(
            f"where: {column} holds {kind}, which has no such number as {value!r}; give a smaller one"
        ) from error


def _not_comparable(column: str, kind: pa.DataType) -> UserError:
    return UserError(
        f"where: {column} holds {kind}, which cannot be compared; use a column of text, numbers or times, "
        "or choose the rows yourself and give their ids, {'id': [...]}"
    )


def _type_of(column: str, kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; that of one without any known value is what it would hold."""
    if not pa.types.is_null(kind):
        return kind
    return pa.float64() if column == "time" else pa.string()


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
