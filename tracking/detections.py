"""What passes between the parts of tracking: a frame, and the boxes found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..common.errors import UserError


class VideoFrame(NamedTuple):
    """A frame of a video.

    Args:
        number: counted from 0, in the video's own order; with a stride, frames in between are missing.
        seconds: presentation time, counted from the start of the video.
        pixels: (H, W, 3) uint8 BGR.
    """

    number: int
    seconds: float
    pixels: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The boxes found in one frame.

    Args:
        boxes: (N, 4) float32, x0, y0, x1, y1 in pixels of the frame; may extend beyond it.
        scores: (N,) float32 confidence in [0, 1].
        labels: N class names, such as "person".
        tracks: (N,) int64 track ids that the source itself states, -1 = none.
    Raises:
        UserError: the lengths differ.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    tracks: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(self.boxes), len(self.scores), len(self.labels), len(self.tracks)}
        if len(lengths) > 1 or self.boxes.shape[1:] != (4,):
            raise UserError(
                f"detections: boxes {self.boxes.shape}, {len(self.scores)} scores, {len(self.labels)} labels and "
                f"{len(self.tracks)} tracks do not belong together; expected (N, 4) boxes and N of each"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(
        cls,
        boxes: np.ndarray,
        scores: np.ndarray | None = None,
        labels: tuple[str, ...] | None = None,
        tracks: np.ndarray | None = None,
    ) -> Detections:
        """Return detections of (N, 4) boxes; by default with score 1, label "person" and no track."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        return cls(
            boxes,
            np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32),
            ("person",) * len(boxes) if labels is None else labels,
            np.full(len(boxes), -1, np.int64) if tracks is None else np.asarray(tracks, np.int64),
        )

    def select(self, rows: np.ndarray) -> Detections:
        """Return the detections of some rows: indices, or a mask of N bools."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        labels = tuple(self.labels[row] for row in rows)
        return Detections(self.boxes[rows], self.scores[rows], labels, self.tracks[rows])
