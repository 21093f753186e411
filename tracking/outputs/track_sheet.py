"""Sheets of tracks: the crops of each track side by side, to see tracks that show two people, and people with two tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...common.files import write_atomically
from ...common.pictures import GREY, encode, grid, labelled, text_picture
from ..recordings import Recording
from ..tracklets.best_crops import TrackCrop
from ..tracklets.tracklet import Tracklet
from .track_output import TrackOutput

CROP = (160, 80)  # height and width of a tile, pixels
MOST_TRACKS = 40  # of a sheet
TITLE_WIDTH = 190  # pixels, of the text on the left


class TrackSheet(TrackOutput):
    """PNG files with a row per track, in the order in which they end: its crops in the order of time.

    Args:
        path: of the first sheet; further ones are called NAME-2.png, NAME-3.png, …
        recording: for times.
    """

    def __init__(self, path: Path, recording: Recording) -> None:
        self.path, self.recording = path, recording
        self._rows: list[list[np.ndarray]] = []
        self._count = 0

    def end(self, tracklets: Sequence[Tracklet], dropped: Sequence[int]) -> None:
        """Add a row per track."""
        for tracklet in tracklets:
            self._rows.append(self._row(tracklet))
            if len(self._rows) == MOST_TRACKS:
                self._write()

    def _row(self, tracklet: Tracklet) -> list[np.ndarray]:
        lines = [
            f"track {tracklet.id} {tracklet.label}",
            f"{clock(self.recording, tracklet.start)} to {clock(self.recording, tracklet.end)}",
            f"frames {tracklet.first_frame} to {tracklet.last_frame}",
            f"{tracklet.num_boxes} boxes, confidence {tracklet.confidence:.2f}",
        ]
        crops = sorted(tracklet.crops, key=lambda crop: crop.frame)
        return [text_picture(lines, TITLE_WIDTH), *(_tile(crop) for crop in crops)]

    def _write(self) -> None:
        self._count += 1
        path = self.path if self._count == 1 else self.path.with_name(f"{self.path.stem}-{self._count}.png")
        content = encode(grid(self._rows))
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
        self._rows = []

    def finish(self) -> None:
        """Write the last sheet."""
        if self._rows:
            self._write()


def _tile(crop: TrackCrop) -> np.ndarray:
    return labelled(crop.pixels, [f"{crop.frame}", f"quality {crop.quality.value:.2f}"], CROP, GREY)


def clock(recording: Recording, seconds: float) -> str:
    """Return the time of a frame: at the camera's clock if the start is known, else minutes and seconds in the recording.

    >>> clock(Recording("a.mp4", "a"), 75.25)
    '1:15.2'
    """
    moment = recording.moment(seconds)
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}" if moment is None else f"{moment:%H:%M:%S}"
