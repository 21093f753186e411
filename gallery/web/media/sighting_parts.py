"""What a track says of its recording: the seconds it covers, and where the person was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

NUMBERS = ("first_frame", "last_frame", "frame", "duration", "x", "y", "width", "height")


class SightingPart(NamedTuple):
    """A part of a recording.

    Args:
        start, stop: seconds from its first frame.
        moment: that of the stored box.
        box: x, y, width, height in pixels of the frame.
        frame_seconds: time from one frame to the next.
    """

    start: float
    stop: float
    moment: float
    box: tuple[float, float, float, float]
    frame_seconds: float

    def seconds_of(self, frame: int) -> float:
        """Return the time of a frame, counted from 0."""
        return frame * self.frame_seconds


def part_of(record: Mapping[str, Any]) -> SightingPart | None:
    """Return the part of its recording that a track covers; None for other rows, and tracks of one frame.

    The frame rate follows from the frames and the duration of the track.

    >>> frames = {"first_frame": 50, "last_frame": 100, "frame": 75, "duration": 2.0}
    >>> part_of({"video": "lobby.mp4", **frames, "x": 1, "y": 2, "width": 3, "height": 4})
    SightingPart(start=2.0, stop=4.0, moment=3.0, box=(1.0, 2.0, 3.0, 4.0), frame_seconds=0.04)
    """
    values = [record.get(name) for name in NUMBERS]
    if not record.get("video") or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    first, last, frame, duration, *box = map(float, values)  # type: ignore[arg-type]
    if duration <= 0 or not 0 <= first < last:
        return None
    step = duration / (last - first)
    return SightingPart(first * step, last * step, frame * step, tuple(box), step)  # type: ignore[arg-type]
