"""The filter time_of_day: clock times at the camera, computed from the columns time and time_zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import Any

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from .sightings import FIRST_DATE, offset_seconds

NAME, DAY = "time_of_day", 86_400.0
_CLOCK = r"\s*(\d{1,2}):(\d\d)(?::(\d\d))?\s*"
_RANGE = re.compile(f"{_CLOCK}-{_CLOCK}")


@dataclass(frozen=True)
class TimeOfDay:
    """A condition on the time of day at which a record starts.

    Args:
        operator: =, != with ranges; <, <=, >, >= with one time.
        ranges: (from, to) seconds after midnight, both included; from > to = over midnight.
        columns: of the records that are read.
    """

    operator: str
    ranges: tuple[tuple[float, float], ...]
    columns: tuple[str, ...]
    column: str = NAME

    @classmethod
    def parse(cls, operator: str, values: tuple[Any, ...], schema: pa.Schema) -> TimeOfDay:
        """Return the condition.

        Args:
            values: as in `Condition`: times such as 08:00, or ranges such as 22:00-06:00.
        Raises:
            UserError: a value has another form.
        """
        columns = tuple(name for name in ("time", "time_zone") if name in schema.names)
        if operator in ("=", "!="):
            return cls(operator, tuple(_range(value) for value in values), columns)
        seconds = _clock(values[0])
        return cls(operator, ((seconds, seconds),), columns)

    def texts(self, schema: pa.Schema) -> list[str]:
        """Return no texts to be looked for."""
        return []

    def mask_of(self, records: pa.Table) -> np.ndarray:
        """Return (N,) bool; records without a date do not pass, except !=."""
        seconds = seconds_of_day(records)
        limit = self.ranges[0][0] if self.ranges else 0.0
        with np.errstate(invalid="ignore"):  # NaN = no date
            if self.operator in ("<", "<=", ">", ">="):
                compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[self.operator]
                return compare(seconds, limit)
            found = np.zeros(len(seconds), bool)
            for start, stop in self.ranges:
                after, before = seconds >= start, seconds <= stop
                found |= (after & before) if start <= stop else (after | before)
        return found if self.operator == "=" else ~found


def seconds_of_day(records: pa.Table) -> np.ndarray:
    """Return (N,) float64 seconds after midnight at the camera; NaN without a date."""
    times = records["time"].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    offsets = np.zeros(len(times))
    if "time_zone" in records.column_names:
        zones = records["time_zone"].combine_chunks().dictionary_encode()
        known = np.array([offset_seconds(text) or 0.0 for text in zones.dictionary.to_pylist()] or [0.0])
        offsets = known[zones.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        offsets = np.where(zones.is_null().to_numpy(zero_copy_only=False), 0.0, offsets)
    return np.where(np.abs(times) >= FIRST_DATE, (times + offsets) % DAY, np.nan)


def _range(value: Any) -> tuple[float, float]:
    match = _RANGE.fullmatch(str(value))
    if match is None:
        raise UserError(
            f"where: {NAME}={value} is no range of times; write {NAME}=08:00-12:00 (also 22:00-06:00), or {NAME}>=08:00"
        )
    return _seconds(match.groups()[:3], value), _seconds(match.groups()[3:], value)


def _clock(value: Any) -> float:
    if isinstance(value, time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    match = re.fullmatch(_CLOCK, str(value))
    if match is None:
        raise UserError(f"where: {NAME} is compared with a time such as 08:00 or 17:30:15, got {value!r}")
    return _seconds(match.groups(), value)


def _seconds(parts: tuple[Any, ...], value: Any) -> float:
    hours, minutes, seconds = (int(part or 0) for part in parts)
    if hours > 24 or minutes > 59 or seconds > 59 or hours * 3600 + minutes * 60 + seconds > DAY:
        raise UserError(f"where: {NAME}: {value!r} is no time of a day; give 00:00 to 24:00")
    return hours * 3600.0 + minutes * 60 + seconds
