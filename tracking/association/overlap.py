"""How boxes overlap."""

from __future__ import annotations

import numpy as np


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the shared areas (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    side = np.maximum(high - low, 0)  # (N, M, 2)
    return side[..., 0] * side[..., 1]


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,)."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return intersection over union (N, M) of boxes (N, 4) and (M, 4), x0, y0, x1, y1; 0 for empty boxes.

    >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1], [5, 5, 6, 6]])).tolist()
    [[0.5, 0.0]]
    """
    shared = _shared(first, second)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def covered_shares(boxes: np.ndarray) -> np.ndarray:
    """Return the share (N,) of each box's area that the one other box which covers most of it covers."""
    shared = _shared(boxes, boxes)
    np.fill_diagonal(shared, 0)
    area = areas(boxes)
    most = shared.max(1, initial=0)
    return np.divide(most, area, out=np.zeros(len(boxes)), where=area > 0)


def grow(boxes: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Return boxes (N, 4) with a margin (N, 2) in pixels on both sides of x and y."""
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)
