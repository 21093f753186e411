"""Crops by identity: DIR/RECORDING_ID/RECORDING_FRAME.jpg, the form that Roboflow's `reid` reads and writes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2

from ...common.errors import UserError
from ..recordings import Recording
from ..tracklets.crop_quality import cut
from ..tracklets.following import TrackedFrame
from ..tracklets.tracklet import Tracklet
from .track_output import TrackOutput

SUFFIX = ".jpg"
VARIANTS = ("-FRCNN", "-DPM", "-SDP")  # MOT17 has each sequence three times, by the detector of det.txt


class IdentityCrops(TrackOutput):
    """One folder per track with its crops as JPEG files; frames count from 1, or as the files of a folder of frames.

    Args:
        folder: of all recordings.
        recording: its name is the first part of all names.
        first_frame: number of its first frame.
        best: write only the best crops of each track, those that a tracklet keeps; False = every crop.
    Raises:
        FileExistsError: the folder holds crops of this recording already.
    """

    def __init__(self, folder: Path, recording: Recording, first_frame: int = 1, best: bool = False) -> None:
        self.folder, self.name, self.first_frame, self.best = folder, sequence_name(recording), first_frame, best
        self.counts: Counter[int] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        if there := sorted(folder.glob(f"{glob_escape(self.name)}_*")):
            raise FileExistsError(
                f"--crops: {there[0]} exists: crops of two calls would mix; delete it or choose another folder"
            )

    def path(self, id: int, frame: int) -> Path:
        """Return the file of a track's crop in a frame counted from 0."""
        return self.folder / f"{self.name}_{id}" / f"{self.name}_{frame + self.first_frame:06d}{SUFFIX}"

    def add(self, tracked: TrackedFrame) -> None:
        """Write the crops of a frame."""
        if self.best:
            return
        for box, id in zip(tracked.detections.boxes, tracked.ids.tolist()):
            pixels = cut(tracked.frame.pixels, box)
            if id >= 0 and pixels.size:
                self._write(self.path(id, tracked.frame.number), pixels)
                self.counts[id] += 1

    def rename(self, old: int, new: int) -> None:
        """Move the crops of `old` to `new`."""
        if self.best or not self.counts.pop(old, 0):
            return
        target = self.path(new, 0).parent
        target.mkdir(exist_ok=True)
        for file in sorted(self.path(old, 0).parent.iterdir()):
            file.rename(target / file.name)
            self.counts[new] += 1
        self.path(old, 0).parent.rmdir()

    def end(self, tracklets: Sequence[Tracklet], dropped: Sequence[int]) -> None:
        """Write the best crops; delete those of tracks with too few boxes."""
        for id in dropped:
            if self.counts.pop(id, 0):
                shutil.rmtree(self.path(id, 0).parent)
        if self.best:
            for tracklet in tracklets:
                for crop in tracklet.crops:
                    self._write(self.path(tracklet.id, crop.frame), crop.pixels[..., ::-1])

    def _write(self, path: Path, pixels: object) -> None:
        path.parent.mkdir(exist_ok=True)
        if not cv2.imwrite(str(path), pixels):  # type: ignore[call-overload]
            raise UserError(f"--crops: cannot write {path}; free some space, or choose another folder")


def sequence_name(recording: Recording) -> str:
    """Return the name of a recording for files: without the detector of MOT17's sequences, and without folders.

    >>> sequence_name(Recording("", "train/MOT17-02-FRCNN")), sequence_name(Recording("", "2026/lobby"))
    ('MOT17-02', '2026-lobby')
    """
    name = recording.name
    if variant := next((suffix for suffix in VARIANTS if name.endswith(suffix)), ""):
        return Path(name.removesuffix(variant)).name
    return name.replace("/", "-")


def glob_escape(name: str) -> str:
    """Return a name in which *, ? and [ stand for themselves in a glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
