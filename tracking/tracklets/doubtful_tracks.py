"""Tracks to leave out: second boxes of people who have a track, and objects that never change.

A detector that takes a window for a person does so in every frame. Nobody keeps so still: the picture in the box of a person is
another one some seconds later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from ..association.overlap import box_iou
from .crop_quality import cut

COVERED = 0.5  # share of a box that the boxes of other tracks cover together, above which it shows nothing else
LOOK_SECONDS = 3.0  # between two looks at the picture in a box
LEAST_LOOKS = 5  # before a track can be an object: 15 s
LOOK_SIZE = (16, 32)  # width and height of the picture that is compared; noise of the camera disappears in it
CHANGED_LEVEL, CHANGED_SHARE = (
    8,
    0.03,
)  # grey levels, and the share of the pixels that differ by more, up to which nothing changed
SAME_PLACE = 0.7  # overlap with the box of the last look, below which the track moved


@dataclass(frozen=True)
class TrackChecks:
    """What a track needs in order to be kept.

    Args:
        confidence: score from which a box is sure.
        keep_still: keep tracks in whose boxes nothing changes.
    """

    confidence: float
    keep_still: bool = False


@dataclass
class TrackEvidence:
    """What the boxes of one track say about it.

    Args:
        num_boxes: all of them; num_sure: those of at least the confidence of a new track; num_apart: the sure ones of which no
            more than COVERED is covered by the boxes of other tracks.
        num_looks: comparisons of the picture in the box with that of LOOK_SECONDS before; num_unchanged: those without a change.
        seconds, box, picture: time, box and grey picture (h, w) uint8 of the last look.
    """

    num_boxes: int = 0
    num_sure: int = 0
    num_apart: int = 0
    num_looks: int = 0
    num_unchanged: int = 0
    seconds: float = -1.0
    box: tuple[float, ...] = ()
    picture: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    def add(self, is_sure: bool, covered: float) -> None:
        """Count a box.

        Args:
            covered: share of it that the boxes of other tracks cover.
        """
        self.num_boxes += 1
        self.num_sure += is_sure
        self.num_apart += is_sure and covered <= COVERED

    def look(self, pixels: np.ndarray, seconds: float, box: np.ndarray) -> None:
        """Compare the picture (H, W, 3) in the box of the last look with what it was then, if that is LOOK_SECONDS ago."""
        if self.box and 0 <= seconds - self.seconds < LOOK_SECONDS - 1e-6:
            return
        if self.box:
            stayed = box_iou(box[None], np.array([self.box]))[0, 0] >= SAME_PLACE
            now = _picture(pixels, np.array(self.box)) if stayed else None
            self.num_looks += 1
            self.num_unchanged += now is not None and is_unchanged(self.picture, now)
        self.seconds, self.box, self.picture = seconds, tuple(map(float, box)), _picture(pixels, box)

    def joined(self, later: TrackEvidence) -> TrackEvidence:
        """Return the evidence of a track of which `later` is the continuation."""
        names = ("num_boxes", "num_sure", "num_apart", "num_looks", "num_unchanged")
        counts = {name: getattr(self, name) + getattr(later, name) for name in names}
        return TrackEvidence(**counts, seconds=later.seconds, box=later.box, picture=later.picture)

    def is_second(self, least_boxes: int) -> bool:
        """Whether most boxes are unsure, and fewer than `least_boxes` of the others show more than the boxes of other tracks do."""
        return 2 * self.num_sure < self.num_boxes and self.num_apart < least_boxes

    @property
    def is_still(self) -> bool:
        """Whether nothing changed in the boxes, most of the time: somebody may pass in front of an object."""
        return self.num_looks >= LEAST_LOOKS and 2 * self.num_unchanged > self.num_looks


def is_unchanged(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether two grey pictures (h, w) uint8 differ by no more than a camera's noise; False if one is empty."""
    if not before.size or before.shape != now.shape:
        return False
    return float((cv2.absdiff(before, now) > CHANGED_LEVEL).mean()) <= CHANGED_SHARE


def _picture(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the grey picture of LOOK_SIZE in a box; an empty one if no pixel of the box lies inside the frame."""
    crop = cut(pixels, box)
    if not crop.size:
        return np.zeros((0, 0), np.uint8)
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, LOOK_SIZE, interpolation=cv2.INTER_AREA)
