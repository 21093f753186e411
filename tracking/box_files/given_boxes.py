"""Boxes from elsewhere as one table, whatever file they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ..class_names import same_class
from ..detections import Detections


@dataclass(frozen=True)
class GivenBoxes:
    """The boxes of a file, in its order; each lies in a frame, at a time, or in a picture.

    Args:
        file: where they come from, for messages.
        detections: all N boxes.
        frames: (N,) int64 frame numbers as the file counts them; None = it states none.
        seconds: (N,) float64 times from the start of the video; None = it states none.
        pictures: N paths or names of image files; None = it states none.
        videos: N paths or names of video files; None = all are of one video, which the file does not name.
        all_pictures: names of all pictures that the file covers, those without boxes included; None = unknown.
        first_frame: number that the file gives to a video's first frame; None = not fixed by its format.
        num_frames: frames that the file covers, those without boxes included; None = unknown.
        fractions: boxes are fractions of the picture's width and height, not pixels.
        size: (height, width) of the picture that the boxes refer to; None = unknown.
    Raises:
        UserError: there is neither frame, time nor picture, or the lengths differ.
    """

    file: Path
    detections: Detections
    frames: np.ndarray | None = None
    seconds: np.ndarray | None = None
    pictures: tuple[str, ...] | None = None
    videos: tuple[str, ...] | None = None
    all_pictures: tuple[str, ...] | None = None
    first_frame: int | None = None
    num_frames: int | None = None
    fractions: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = [one for one in (self.frames, self.seconds, self.pictures) if one is not None]
        if not given or any(len(one) != len(self.detections) for one in given):
            raise UserError(f"{self.file}: every box needs a frame number, a time or a picture; some have none")

    def __len__(self) -> int:
        return len(self.detections)

    def select(self, rows: np.ndarray) -> GivenBoxes:
        """Return some boxes: a mask of N bools."""
        chosen: dict[str, Any] = {"detections": self.detections.select(rows)}
        for name in ("frames", "seconds"):
            values = getattr(self, name)
            chosen[name] = None if values is None else values[rows]
        for name in ("pictures", "videos"):
            values = getattr(self, name)
            chosen[name] = None if values is None else tuple(v for v, keep in zip(values, rows) if keep)
        return replace(self, **chosen)


def select_classes(given: GivenBoxes, classes: tuple[str, ...], confidence: float = 0.0) -> GivenBoxes:
    """Return the boxes of some classes, with at least that score.

    Args:
        classes: names, as for detectors; () = all.
    Raises:
        UserError: no box at all has one of the classes; lists those that the file has.
    """
    labels = given.detections.labels
    wanted = np.array([not classes or any(same_class(name, label) for name in classes) for label in labels], bool)
    if len(labels) and not wanted.any():
        found = ", ".join(sorted(set(labels))[:20])
        raise UserError(
            f"{given.file}: holds no box of the class {' or '.join(classes)}; its classes are {found}: choose one of them, or "
            "state the names of class numbers"
        )
    return given.select(wanted & (given.detections.scores >= confidence))
