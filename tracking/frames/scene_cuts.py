"""Camera cuts: one frame differs from the frame before it as a whole."""

from __future__ import annotations

import cv2
import numpy as np

_SMALL = (48, 27)  # width, height of the compared picture
_BINS = 32


class SceneCuts:
    """Compares each frame with the one before it; two signs must agree: colours and layout.

    Args:
        least_likeness: correlation of both, in [-1, 1], below which a frame starts a new scene.
    """

    def __init__(self, least_likeness: float = 0.5) -> None:
        self.least_likeness = least_likeness
        self.previous: np.ndarray = np.zeros((0, 0), np.uint8)  # (27, 48) grey picture of the last frame; empty = none

    def is_cut(self, pixels: np.ndarray) -> bool:
        """Whether a frame, (H, W, 3) uint8 BGR, starts a new scene. An empty picture never does."""
        if not pixels.size:
            return False
        small = _small(pixels)
        before, self.previous = self.previous, small
        if not before.size:
            return False
        layout = _correlation(before.ravel(), small.ravel())
        return (
            layout < self.least_likeness and _correlation(_histogram(before), _histogram(small)) < self.least_likeness
        )


def _small(pixels: np.ndarray) -> np.ndarray:
    """Return the (27, 48) grey picture of a frame; large frames are thinned out first, which takes no time."""
    down, across = (max(1, side // (2 * small)) for side, small in zip(pixels.shape[:2], _SMALL[::-1]))
    thin = np.ascontiguousarray(pixels[::down, ::across])
    return cv2.cvtColor(cv2.resize(thin, _SMALL, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)


def _histogram(picture: np.ndarray) -> np.ndarray:
    """Return the smoothed counts (32,) of grey levels."""
    counts = np.bincount(picture.ravel() // (256 // _BINS), minlength=_BINS).astype(np.float64)
    return np.convolve(counts, (0.25, 0.5, 0.25), "same")


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation; 1 where both are constant, 0 where one is."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    if scale == 0:
        return float((a @ a) == (b @ b))
    return float(a @ b) / scale
