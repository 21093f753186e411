"""One typed, documented option: the building block of `defaults.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..common.errors import UserError

Value = Any  # bool, int, float, str, or a tuple of those


@dataclass(frozen=True)
class Option:
    """A config key with its meaning, and what counts as a valid value.

    Args:
        default: also fixes the type; an int is accepted where the default is a float.
        help: meaning, unit and, in brackets, the source.
        choices: the only accepted values (compared element by element for a tuple).
        at_least, at_most: inclusive bounds (element by element for a tuple).
        length: the number of elements a tuple must have; None accepts any number.
        is_open: the choices are the names that a room's dict ships with. Names can be added to the dict, so the room's `build_*`
            function checks the value.
        per_machine: the machines of one run may set different values.
        resumable: a resumed run may set another value without a warning.
        is_path: the value is a file or a folder. One in a config out of a stranger's file is left aside.
    """

    default: Value
    help: str
    choices: Sequence[Value] | None = None
    at_least: float | None = None
    at_most: float | None = None
    length: int | None = None
    is_open: bool = False
    per_machine: bool = False
    resumable: bool = False
    is_path: bool = False

    def accept(self, key: str, value: Value) -> Value:
        """Return `value` in the option's type.

        Raises:
            ValueError: wrong type, not among the choices, or out of bounds; names `key` and what is accepted.
        """
        if isinstance(self.default, tuple):
            return self._accept_tuple(key, value)
        value = _coerce(key, value, type(self.default))
        self._check(key, value)
        return value

    def _accept_tuple(self, key: str, value: Value) -> tuple[Value, ...]:
        if not isinstance(value, (tuple, list)):
            # DATASETS.NAMES ('market1501') is one name, not a sequence of letters
            value = (value,) if value != "" else ()
        kind = type(self.default[0]) if self.default else str
        items = tuple(_coerce(key, item, kind) for item in value)
        if self.length is not None and len(items) != self.length:
            raise UserError(f"{key}: expected {self.length} values, got {len(items)}: {items}")
        for item in items:
            self._check(key, item)
        return items

    def _check(self, key: str, value: Value) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}: {value} is not a number that can be used")
        if self.choices is not None and not self.is_open and value not in self.choices:
            accepted = ", ".join(str(choice) or "''" for choice in self.choices)
            raise UserError(f"{key}: unknown value {value!r}; choose from {accepted}")
        if self.at_least is not None and value < self.at_least:
            raise UserError(f"{key}: {value} is too small; it must be at least {self.at_least:g}")
        if self.at_most is not None and value > self.at_most:
            raise UserError(f"{key}: {value} is too large; it must be at most {self.at_most:g}")


_ACCEPTED: dict[type, tuple[type, ...]] = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}


def _coerce(key: str, value: Value, kind: type) -> Value:
    """Return `value` as `kind`; YAML reads `1e-4` as text, so numbers written that way are accepted as numbers."""
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a folder called 123
    numeric_bool = isinstance(value, bool) and kind is not bool  # bool is a subclass of int
    if numeric_bool or not isinstance(value, _ACCEPTED[kind]):
        raise UserError(f"{key}: expected {kind.__name__}, got {type(value).__name__} {value!r}")
    return kind(value)
