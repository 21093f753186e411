"""How boxes overlap."""

from __future__ import annotations

import numpy as np

_LEVEL = 0.02  # box heights within which two boxes end at the same level: either may be in front
_SAME = 0.5
_GRID = 16  # points per side at which boxes are compared with several others


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


def nested_shares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share (N, M) of the smaller of two boxes that lies in the other; 1 = one contains the other."""
    smaller = np.minimum(areas(first)[:, None], areas(second)[None])
    return _shared(first, second) / np.maximum(smaller, 1e-9)


def covered_shares(boxes: np.ndarray) -> np.ndarray:
    """Return the share (N,) of each box that the others cover together, of a grid of 16 x 16 points.

    >>> covered_shares(np.array([[0, 0, 4, 4], [0, 0, 2, 4], [2, 0, 3, 4]])).tolist()
    [0.75, 1.0, 1.0]
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    steps = (np.arange(_GRID) + 0.5) / _GRID
    points = boxes[:, None, :2] + steps[None, :, None] * (boxes[:, None, 2:] - boxes[:, None, :2])  # (N, 16, 2)
    within = (points[:, None] >= boxes[None, :, None, :2]) & (points[:, None] <= boxes[None, :, None, 2:])
    within[np.arange(len(boxes)), np.arange(len(boxes))] = False
    covered = within[:, :, :, None, 0] & within[:, :, None, :, 1]  # (N, M, 16, 16): x and y of the point
    return covered.any(1).mean((1, 2))


def hidden_shares(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share (N,) of each box that the one other box in front of it covers which covers most.

    Of two people on one floor, the one whose box ends lower in the picture stands nearer to the camera.

    Args:
        boxes: (N, 4). others: (M, 4); those of more than half overlap with a box count as the same person.
    """
    if not len(boxes) or not len(others):
        return np.zeros(len(boxes))
    shared = _shared(boxes, others)
    height = boxes[:, 3] - boxes[:, 1]
    behind = others[None, :, 3] < (boxes[:, 3] - _LEVEL * height)[:, None]
    shared[behind | (box_iou(boxes, others) > _SAME)] = 0
    return shared.max(1) / np.maximum(areas(boxes), 1e-9)
