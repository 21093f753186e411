"""Values as text for people, and as plain JSON types for files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from itertools import chain, zip_longest
from typing import Any

from .errors import UserError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def percent(value: float, digits: int = 1) -> str:
    """Return e.g. "57.1%", and "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}%"


def share_text(value: float) -> str:
    """Return a probability in percent; the ends are open, because an estimate is never certain.

    >>> share_text(0.874), share_text(0.0004), share_text(0.9996)
    ('87 %', '<1 %', '>99 %')
    """
    return "<1 %" if value < 0.01 else ">99 %" if value > 0.99 else f"{100 * value:.0f} %"


def interval(low: float, high: float) -> str:
    """Return e.g. "51.0% to 57.1%", and "-" for an interval without width, which says nothing about other queries.

    >>> interval(0.51, 0.571), interval(0.0, 0.0)
    ('51.0% to 57.1%', '-')
    """
    return "-" if low == high or math.isnan(low) else f"{percent(low)} to {percent(high)}"


def points(value: float, digits: int = 1) -> str:
    """Return the difference of two fractions in percentage points, e.g. "+1.2", and "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:+.{digits}f}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the error's type if it has none.

    >>> first_line(ValueError("too large\\nat line 3")), first_line(MemoryError())
    ('too large', 'MemoryError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Return text for a terminal: control characters, and marks that change the direction of writing, as their codes.

    >>> print(printable("c1" + chr(27) + "[2J"))
    c1\\x1b[2J
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file: text that a spreadsheet would take for a formula gets an apostrophe in front.

    >>> csv_cell("=1+1"), csv_cell("-3.5"), csv_cell("camera 1"), csv_cell(None)
    ("'=1+1", '-3.5', 'camera 1', None)
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return camera names without the data set's prefix; with it if two would become equal.

    >>> short_names(["market1501/c1", "market1501/c2"]), short_names(["a/c1", "b/c1"])
    (['c1', 'c2'], ['a/c1', 'b/c1'])
    """
    short = [name.rsplit("/", 1)[-1] for name in names]
    return short if len(set(short)) == len(short) else list(names)


def person_text(pid: object) -> str:
    """Return a person's name; a number becomes "pid 7".

    >>> person_text("Ann Lee"), person_text(7), person_text("0007")
    ('Ann Lee', 'pid 7', 'pid 0007')
    """
    text = str(pid)
    return f"pid {text}" if text.lstrip("-").isdigit() else text


def table(rows: Sequence[Sequence[str]], *, left: int | None = 1, widths: Sequence[int] = ()) -> str:
    """Return rows of cells as lines of aligned columns, two spaces apart.

    Args:
        rows: the first row usually holds the headings; all have the same number of cells.
        left: number of leading columns aligned to the left, the others go to the right; None = all to the left.
        widths: least width of each column, for rows that are printed one by one; columns without one fit their longest cell.

    >>> print(table([["camera", "mAP"], ["c1", "57.1%"]]))
    camera    mAP
    c1      57.1%
    """
    longest = (max(map(len, column)) for column in zip(*rows, strict=True))
    columns = [max(pair) for pair in zip_longest(longest, widths, fillvalue=0)]
    stop = len(columns) if left is None else left
    lines = (
        "  ".join(cell.ljust(w) if i < stop else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, columns)))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def plain_values(value: Any) -> Any:
    """Return a value in JSON types: NaN and infinity as None, arrays as lists, dates as ISO 8601, other types as text.

    >>> plain_values({"a": float("nan"), "b": (1, 2.5)})
    {'a': None, 'b': [1, 2.5]}
    """
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    return str(value).encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8


def parse_json(content: str | bytes, source: str) -> Any:
    """Return the values in JSON text.

    Args:
        source: where the text comes from, for the message.
    Raises:
        UserError: it is no JSON, no UTF-8, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise UserError(f"{source} is not readable JSON (nested too deeply); restore it") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UserError(f"{source} is not readable JSON ({error}); restore it") from None


def num_values(value: Any, known: dict[int, float] | None = None) -> float:
    """Return the number of values in nested lists and dictionaries, repeated ones counted each time.

    A list that stands in several places takes memory once, so a small file can hold a structure that no loop gets through.

    >>> inner = [1, 2]
    >>> num_values({"a": inner, "b": inner})
    9

    Args:
        known: numbers of the lists and dictionaries already counted, by their id.
    Returns:
        Infinity for a list that contains itself, or one nested too deeply to be counted.
    """
    if not isinstance(value, (Mapping, list, tuple, set)):
        return 1
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = math.inf  # as long as it is being counted
        items = chain.from_iterable(value.items()) if isinstance(value, Mapping) else value
        try:
            known[id(value)] = 1 + sum(num_values(item, known) for item in items)
        except RecursionError:
            return math.inf
    return known[id(value)]


def parse_moment(text: str) -> datetime:
    """Return ISO 8601 text as a datetime; Python 3.10 alone reads no Z, and fractions of 3 or 6 digits only.

    >>> parse_moment("2026-01-31T08:00:07.5Z")
    datetime.datetime(2026, 1, 31, 8, 0, 7, 500000, tzinfo=datetime.timezone.utc)

    Raises:
        ValueError: other text.
    """
    full = re.sub(r"(?<=\d)[.,](\d{1,6})\d*", lambda found: f".{found[1]:<06}", text, count=1)
    return datetime.fromisoformat(full.replace("Z", "+00:00"))


def to_seconds(value: Any) -> float | None:
    """Return a time as seconds since 1970 (UTC): a number, a datetime, or ISO 8601 text, UTC unless an offset is given.

    >>> to_seconds("1970-01-01T00:01:00"), to_seconds("1970-01-01T01:00+01:00"), to_seconds("2.5")
    (60.0, 0.0, 2.5)

    Raises:
        ValueError: anything else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    try:
        return None if math.isnan(float(value)) else float(value)
    except (TypeError, ValueError):
        pass
    try:
        return to_seconds(parse_moment(str(value)))
    except ValueError:
        raise UserError(f"time: expected seconds or ISO 8601 such as 2026-01-31T12:00:00, got {value!r}") from None
