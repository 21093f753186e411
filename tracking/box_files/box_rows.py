"""Collects the boxes of a file, row by row."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ..detections import Detections
from .given_boxes import GivenBoxes


class BoxRows:
    """Boxes so far; `finish` makes the table. A box needs 50 to 100 bytes."""

    def __init__(self) -> None:
        self._boxes, self._scores = array("f"), array("f")
        self._tracks, self._frames, self._seconds = array("q"), array("q"), array("d")
        self._labels: list[str] = []
        self._pictures: list[str] = []
        self._videos: list[str] = []
        self._known: dict[str, str] = {}
        self._track_numbers: dict[str, int] = {}

    def add(
        self,
        box: tuple[float, float, float, float],
        *,
        frame: int | None = None,
        seconds: float | None = None,
        picture: str | None = None,
        video: str | None = None,
        score: float = 1.0,
        label: str = "person",
        track: int = -1,
    ) -> None:
        """Add a box (x0, y0, x1, y1); one of frame, seconds and picture is given, the same one in all rows of a file."""
        self._boxes.extend(box)
        self._scores.append(score)
        self._tracks.append(track)
        self._labels.append(self._shared(label))
        if frame is not None:
            self._frames.append(frame)
        if seconds is not None:
            self._seconds.append(seconds)
        if picture is not None:
            self._pictures.append(self._shared(picture))
        if video is not None:
            self._videos.append(self._shared(video))

    def track_number(self, text: str) -> int:
        """Return the track of a name: its number, or the order of its first appearance among names that are none."""
        try:
            number = int(float(text))
            if number == float(text) and abs(number) < 2**63:
                return number
        except (ValueError, OverflowError):
            pass
        return self._track_numbers.setdefault(text, len(self._track_numbers))

    def finish(self, file: Path, **about: Any) -> GivenBoxes:
        """Return the table.

        Args:
            about: further values of `GivenBoxes`.
        """
        detections = Detections(
            np.array(self._boxes, np.float32).reshape(-1, 4),
            np.array(self._scores, np.float32),
            tuple(self._labels),
            np.array(self._tracks, np.int64),
        )
        frames = np.array(self._frames, np.int64) if self._frames else None
        seconds = np.array(self._seconds, np.float64) if self._seconds else None
        if frames is None and seconds is None and not self._pictures:
            frames = np.empty(0, np.int64)
        pictures, videos = tuple(self._pictures) or None, tuple(self._videos) or None
        if videos is not None and len(videos) < len(detections):
            raise UserError(
                f"{file}: {len(detections) - len(videos)} lines name no video; every line names it, or none"
            )
        return GivenBoxes(file, detections, frames, seconds, pictures, videos, **about)

    def _shared(self, text: str) -> str:
        return self._known.setdefault(text, text)
