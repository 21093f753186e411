"""Labels in file names, by a regular expression of the user; and times as file names write them."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import PurePath

from ..common.errors import UserError

_DATE = re.compile(
    r"(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)(?:[-_.T ]?(\d\d)[-_.:h]?(\d\d)(?:[-_.:m]?(\d\d))?)?"
)  # 20260131_083000, 2026-01-31 08-30
_MILLISECONDS = re.compile(r"\d{13}")  # since 1970


class NamePattern:
    """A label that stands in the names of files.

    >>> NamePattern("--camera-pattern", r"/(\\w+)_\\d+\\.jpg").of("ann/door_0001.jpg")
    'door'

    Args:
        option: where the pattern comes from, for errors.
        text: a regular expression, searched in the path below the data set's folder, with / between folders. Its first group is
            the label, or all that it matches if it has no group.
    Raises:
        UserError: it is no regular expression.
    """

    def __init__(self, option: str, text: str) -> None:
        self.option, self.text = option, text
        try:
            self._pattern = re.compile(text)
        except re.error as error:
            raise UserError(
                f"{option}: {text!r} is no regular expression ({error}); for names such as c2_0001.jpg write 'c(\\d+)_'"
            ) from error

    def of(self, path: str | PurePath) -> str | None:
        """Return the label in a path, None if the pattern does not match or its group is empty."""
        found = self._pattern.search(PurePath(path).as_posix())
        return (found[1] if self._pattern.groups else found[0]) or None if found else None

    def missing(self, count: int, total: int, first: str) -> UserError:
        """Return the error for a pattern that is not found in `count` of `total` paths."""
        return UserError(
            f"{self.option}: {self.text!r} is not found in {count} of {total} file names, the first: {first}; it is searched in "
            "the path below the folder, and its first group is the label"
        )


def time_in_name(text: str) -> float | str:
    """Return seconds since 1970 (UTC) if the text is a date and time of digits, or milliseconds since 1970; else the text.

    >>> time_in_name("20260131_083000"), time_in_name("2026-01-31 08-30-00"), time_in_name("1769848200000"), time_in_name("12.5")
    (1769848200.0, 1769848200.0, 1769848200.0, '12.5')

    Raises:
        UserError: digits that are no date, such as a 13th month.
    """
    if _MILLISECONDS.fullmatch(text):
        return int(text) / 1000
    if not (found := _DATE.fullmatch(text)):
        return text
    try:
        year, month, day, hour, minute, second = (int(part) for part in found.groups(default="0"))
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError as error:
        raise UserError(
            f"time: {text!r} is no date and time ({error}); expected digits such as 20260131_083000"
        ) from error
