"""Tracks as a manifest for training: a CSV file with one box per line; a track is a person until someone says otherwise."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.files import write_text_atomically
from ..recordings import Recording
from ..tracklets.following import TrackedFrame
from ..tracklets.tracklet import Tracklet
from .track_output import TrackOutput

Locate = Callable[[int, int], tuple[str, "int | None"]]
COLUMNS = ("path", "frame", "x", "y", "width", "height", "camid", "tracklet", "pid", "split")


class ManifestBox(NamedTuple):
    """A box of a track: frame counted from 0, and corners in pixels."""

    frame: int
    x0: float
    y0: float
    x1: float
    y1: float


class PeopleManifest(TrackOutput):
    """Gathers the lines of one recording; `write_manifest` writes those of all.

    Args:
        recording: which.
        best: list only the crops that a tracklet keeps; False = every box.
        locate: (track, frame) -> file to list and its frame: that of the crop, or the video; a picture of a whole frame has none.
    """

    def __init__(self, recording: Recording, best: bool, locate: Locate) -> None:
        self.recording, self.best, self._locate = recording, best, locate
        self._open: dict[int, list[ManifestBox]] = {}
        self.lines: list[tuple[int, ManifestBox]] = []  # track and box

    def add(self, tracked: TrackedFrame) -> None:
        """Remember the boxes of a frame."""
        if self.best:
            return
        for box, id in zip(tracked.detections.boxes.tolist(), tracked.ids.tolist()):
            if id >= 0:
                self._open.setdefault(id, []).append(ManifestBox(tracked.frame.number, *box))

    def rename(self, old: int, new: int) -> None:
        """Give the boxes of `old` to `new`."""
        self._open.setdefault(new, []).extend(self._open.pop(old, []))

    def end(self, tracklets: Sequence[Tracklet], dropped: Sequence[int]) -> None:
        """Take the lines of the tracks."""
        for id in dropped:
            self._open.pop(id, None)
        for tracklet in tracklets:
            boxes = self._open.pop(tracklet.id, [])
            if self.best:
                boxes = [ManifestBox(crop.frame, *crop.box) for crop in tracklet.crops]
            self.lines += [(tracklet.id, box) for box in boxes]

    def rows(self) -> Iterator[tuple[str, int | None, ManifestBox, int]]:
        """Yield (file, frame, box, track), sorted by frame, then track."""
        for id, box in sorted(self.lines, key=lambda line: (line[1].frame, line[0])):
            yield (*self._locate(id, box.frame), box, id)


def write_manifest(path: Path, parts: Sequence[PeopleManifest]) -> int:
    """Write the lines of all recordings, sorted by recording, frame and track; return their number.

    Paths in the CSV file's folder or below are relative to it. `pid` is the name of the track, `split` is train.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for part in parts:
        for file, frame, box, id in part.rows():
            numbers = (f"{round(value, 4):.10g}" for value in (box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0))
            name = f"{part.recording.name}/{id}"
            place = [_shown(file, path), "" if frame is None else frame, *numbers]
            writer.writerow([*place, part.recording.camera or "unknown", name, name, "train"])
            count += 1
    write_text_atomically(path, text.getvalue())
    return count


def _shown(file: str, manifest: Path) -> str:
    relative = os.path.relpath(file, manifest.absolute().parent)
    return os.path.abspath(file) if relative.startswith(os.pardir) else relative
