"""Tracks as a result file of MOTChallenge."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from ..box_files.mot_text import mot_line
from ..detections import Detections
from ..tracker import TrackerOptions
from ..tracklets.following import TrackedFrame
from .track_output import TrackOutput

SETTLED_SECONDS = TrackerOptions.young_seconds + 0.5  # after which the tracker changes no id any more


class MotFile(TrackOutput):
    """Text of frame, id, left, top, width, height, confidence, -1, -1, -1, sorted by frame; frames count from 1.

    Lines are written once their ids are settled. The file appears when it is complete.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._file = self._partial.open("w", encoding="ascii")
        self._waiting: deque[tuple[float, int, Detections]] = deque()  # seconds, frame number, boxes with ids

    def add(self, tracked: TrackedFrame) -> None:
        """Add the boxes that have a track."""
        found = tracked.detections
        boxes = Detections(found.boxes, found.scores, found.labels, tracked.ids.copy()).select(tracked.ids >= 0)
        self._waiting.append((tracked.frame.seconds, tracked.frame.number, boxes))
        while self._waiting[0][0] < tracked.frame.seconds - SETTLED_SECONDS:
            self._write()

    def rename(self, old: int, new: int) -> None:
        """Change the id in the lines that are not written yet."""
        for _, _, boxes in self._waiting:
            boxes.tracks[boxes.tracks == old] = new

    def _write(self) -> None:
        _, number, boxes = self._waiting.popleft()
        self._file.writelines(f"{mot_line(number, boxes, row)}\n" for row in range(len(boxes)))

    def finish(self) -> None:
        """Write the remaining lines and put the file in its place."""
        while self._waiting:
            self._write()
        self._file.close()
        self._partial.replace(self.path)
