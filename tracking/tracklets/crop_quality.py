"""How well a crop shows a person: size, sharpness, confidence, cut by the border, hidden by others."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from ...common.pictures import cut_box
from ..detections import Detections

FULL_SIDE = math.sqrt(128 * 64)  # pixels, side of the square of the same area: Market-1501's crops are 128 x 64
SHARP_SIZE = (
    64,
    128,
)  # width and height, pixels, at which sharpness is measured, so that it does not depend on the size
HALF_SHARP = (
    100.0  # variance of the Laplacian at which sharpness is 0.5; blurred crops have some 20, sharp ones some 1000
)
BORDER = 2.0  # pixels; a detector clips its boxes, so a box this close to the border is probably cut
TOUCHING = 0.5  # factor of such a box


class CropQuality(NamedTuple):
    """Factors in [0, 1], 1 = best.

    Args:
        size: side of the crop (of the square of its area) over FULL_SIDE, at most 1.
        sharpness: v / (v + HALF_SHARP) of the variance v of the Laplacian.
        confidence: the detector's.
        inside: share of the box inside the frame; times TOUCHING if it reaches the border.
        visible: share of the box that no box in front of it covers.
    """

    size: float
    sharpness: float
    confidence: float
    inside: float
    visible: float

    @property
    def value(self) -> float:
        """The product of the factors: weight of a crop in the mean of its track."""
        return math.prod(self)


def box_qualities(frame: np.ndarray, detections: Detections) -> list[CropQuality]:
    """Return the qualities (N) of a frame's boxes as if all were sharp: upper bounds that need no pixels.

    Args:
        frame: (H, W, 3); only its shape is read.
    """
    boxes, limits = detections.boxes, np.array(frame.shape[1::-1] * 2, np.float32)
    clipped = np.clip(boxes, 0, limits)
    areas, within = _areas(boxes), _areas(clipped)
    sizes = np.minimum(1, np.sqrt(within) / FULL_SIDE)
    reaches = ((boxes[:, :2] < BORDER) | (boxes[:, 2:] > limits[2:] - BORDER)).any(1)
    inside = within / np.maximum(areas, 1e-6) * np.where(reaches, TOUCHING, 1)
    columns = (sizes, np.ones(len(boxes)), detections.scores, inside, 1 - _covered(clipped))
    return [CropQuality(*row) for row in np.stack(columns, 1).astype(float).tolist()] if len(boxes) else []


def sharpness(crop: np.ndarray) -> float:
    """Return the sharpness of a crop, (h, w, 3) uint8, in [0, 1]."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    size = (min(SHARP_SIZE[0], grey.shape[1]), min(SHARP_SIZE[1], grey.shape[0]))
    variance = float(cv2.Laplacian(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.CV_32F).var())
    return variance / (variance + HALF_SHARP)


def cut(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of a frame inside a box (x0, y0, x1, y1), (h, w, 3), without a copy; empty if it lies outside."""
    x0, y0, x1, y1 = map(float, box)
    return cut_box(frame, x0, y0, x1 - x0, y1 - y0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _covered(boxes: np.ndarray) -> np.ndarray:
    """Return the largest share (N,) of each box that one box in front covers; in front = its lower edge is lower."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)  # (N, N)
    in_front = boxes[None, :, 3] > boxes[:, None, 3]
    return (shared * in_front).max(1, initial=0) / np.maximum(_areas(boxes), 1e-6)
