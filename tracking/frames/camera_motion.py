"""Camera motion between two frames, from corners followed by sparse optical flow (BoT-SORT, arXiv:2206.14651, section 3.2)."""

from __future__ import annotations

import cv2
import numpy as np

_WIDTH = 320  # of the picture in which corners are followed
_CORNERS, _LEAST = 200, 12


class CameraMotion:
    """Follows corners of the background from frame to frame."""

    def __init__(self) -> None:
        self.previous: np.ndarray = np.zeros((0, 0), np.uint8)  # grey picture of the last frame; empty = none

    def follow(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return the (2, 3) similarity transform from the frame before to this one, in pixels; the identity where none is found.

        Args:
            pixels: (H, W, 3) uint8 BGR.
            boxes: (N, 4) of what moves alone and is left out.
        """
        if not pixels.size:
            return np.eye(2, 3)
        scale = min(1.0, _WIDTH / pixels.shape[1])
        grey = cv2.cvtColor(
            cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
        )
        before, self.previous = self.previous, grey
        if before.shape != grey.shape:
            return np.eye(2, 3)
        transform = _similarity(before, grey, boxes * scale)
        transform[:, 2] /= scale
        return transform


def _similarity(before: np.ndarray, grey: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the (2, 3) transform in the pixels of the small pictures."""
    mask = np.full(before.shape, 255, np.uint8)
    for x0, y0, x1, y1 in np.maximum(np.round(boxes), 0).astype(int).tolist():
        mask[y0:y1, x0:x1] = 0
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 5, mask=mask)
    if corners is None or len(corners) < _LEAST:
        return np.eye(2, 3)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, grey, corners, None)  # type: ignore[call-overload]  # the stubs know no None
    kept = found.ravel() == 1
    if kept.sum() < _LEAST:
        return np.eye(2, 3)
    cv2.setRNGSeed(0)  # the same transform in each run
    transform, _ = cv2.estimateAffinePartial2D(corners[kept], moved[kept], method=cv2.RANSAC)
    return np.eye(2, 3) if transform is None else transform
