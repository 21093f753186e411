"""The best crops of a track, spread over its length, chosen while it passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .crop_quality import CropQuality

MOST_PIXELS = 512 * 256  # of a crop that is kept; larger ones are shrunk, so that memory does not depend on the camera


@dataclass(frozen=True, eq=False)
class TrackCrop:
    """One crop of a track.

    Args:
        frame, seconds: number and time of its frame.
        box: x0, y0, x1, y1 in pixels of the frame.
        quality: of the crop.
        pixels: (h, w, 3) uint8 RGB, the box cut out of the frame; shrunk to MOST_PIXELS if it is larger.
    """

    frame: int
    seconds: float
    box: tuple[float, float, float, float]
    quality: CropQuality
    pixels: np.ndarray


class BestCrops:
    """At most `num_crops` crops: the best of each slot, where the slots divide the track into parts of equal length.

    When a track outgrows its slots, each two neighbours become one and the better crop stays. So a track of any length
    keeps between half of `num_crops` and all of them, and never only the crops of one good second.
    """

    def __init__(self, num_crops: int) -> None:
        self.num_crops, self.width, self.offered = num_crops, 1, 0
        self.slots: dict[int, TrackCrop] = {}

    def offer(self, bound: float, make: Callable[[float], TrackCrop | None]) -> None:
        """Consider the next crop of the track.

        Args:
            bound: upper bound of its quality; `make` is called only if that could be the best of its slot.
            make: given the quality of the best so far, -1 if there is none, returns the crop; None = it is no better, or it cannot
                be cut.
        """
        slot = self.offered // self.width
        self.offered += 1
        if slot >= self.num_crops:
            self._halve()
            slot //= 2
        best = self.slots.get(slot)
        least = -1.0 if best is None else best.quality.value
        if least >= bound:
            return
        crop = make(least)
        if crop is not None and crop.quality.value > least:
            self.slots[slot] = crop

    def _halve(self) -> None:
        merged: dict[int, TrackCrop] = {}
        for slot, crop in sorted(self.slots.items()):
            best = merged.get(slot // 2)
            if best is None or crop.quality.value > best.quality.value:
                merged[slot // 2] = crop
        self.slots, self.width = merged, 2 * self.width

    def ranked(self) -> tuple[TrackCrop, ...]:
        """Return the crops, best first; of equal ones the earlier first."""
        return tuple(sorted(self.slots.values(), key=lambda crop: (-crop.quality.value, crop.frame)))


def kept_pixels(crop: np.ndarray) -> np.ndarray:
    """Return a BGR crop (h, w, 3) as RGB in new memory, shrunk to MOST_PIXELS if it is larger."""
    factor = (MOST_PIXELS / (crop.shape[0] * crop.shape[1])) ** 0.5
    if factor < 1:
        size = (max(1, int(crop.shape[1] * factor)), max(1, int(crop.shape[0] * factor)))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
