"""What the names of image files say: person and camera by a known scheme, camera and time by the user's patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from ..common.errors import UserError
from .name_pattern import NamePattern, time_in_name

LAYOUTS = ("market1501", "dukemtmc", "synthetic")  # their file names are PID_cCAMERA…
JUNK = "-1"  # pid of images that show nobody, in Market-1501's convention
_NAME = re.compile(r"(-?\d+)_c(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class NameOptions:
    """What is read from the names of files; nothing by default.

    Args:
        scheme: one of `LAYOUTS`: person and camera, from names such as 0002_c1s1_000451_03.jpg.
        camera_pattern, time_pattern: regular expressions, see `NamePattern`, for the camera's name and for the time: seconds,
            ISO 8601, or digits as in 20260131_083000 (UTC).
    Raises:
        ValueError: an unknown scheme, or no regular expression.
    """

    scheme: str | None = None
    camera_pattern: str | None = None
    time_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.scheme is not None and self.scheme not in LAYOUTS:
            raise UserError(f"--names: unknown value {self.scheme!r}; choose from {', '.join(LAYOUTS)}")
        _ = self.patterns

    @cached_property
    def patterns(self) -> dict[str, NamePattern]:
        """The patterns given, by what they find: camera, time."""
        given = {"camera": self.camera_pattern, "time": self.time_pattern}
        return {what: NamePattern(f"--{what}-pattern", text) for what, text in given.items() if text}

    def by_scheme(self, path: str) -> dict[str, str | None]:
        """Return pid and camera, `{}` if the file is not named so; the pid of junk, below 0, is None."""
        match = _NAME.match(PurePath(path).name) if self.scheme else None
        if match is None:
            return {}
        pid = int(match[1])
        return {"pid": str(pid) if pid >= 0 else None, "camera": f"{self.scheme}/c{int(match[2])}"}

    def by_pattern(self, path: str) -> dict[str, str | float]:
        """Return camera and time, as far as there are patterns.

        Raises:
            ValueError: a pattern is not found in the path, or finds no date; names the option.
        """
        found: dict[str, str | float] = {}
        for what, pattern in self.patterns.items():
            text = pattern.of(path)
            if text is None:
                raise pattern.missing(1, 1, path)
            found[what] = time_in_name(text) if what == "time" else text
        return found
