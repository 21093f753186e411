"""First stage: boxes that lie where tracks are predicted; appearance decides where several pairs are possible."""

from __future__ import annotations

import numpy as np

from .appearance import appearance_distances
from .assignment import assign
from .frame_state import FrameState
from .kalman import JITTER, Motion, sizes, to_centre
from .overlap import box_iou
from .track_table import TrackTable

_IOU = 0.1  # least overlap with the predicted box
_LOW_IOU = 0.4  # the same for boxes of low confidence (0.5 in ByteTrack)
_SURE = 9.21  # squared Mahalanobis distance that 99 % of the right pairs do not exceed, two degrees of freedom
_RIVAL_IOU = 0.2  # overlap of a second pair that makes a match uncertain
_STALE_SECONDS = 0.3  # unseen for longer, a track is not continued by its prediction alone if an embedding can be had


def match_high(table: TrackTable, state: FrameState, wanted: np.ndarray, weight: float, limit: float) -> None:
    """Give the boxes of high confidence to predicted tracks.

    Args:
        wanted: (N,) mask of these boxes.
        weight: share of appearance in the cost of uncertain pairs.
        limit: cosine distance at which two crops show one person or two with equal probability.
    """
    rows, tracks = state.free(wanted), np.flatnonzero(table.moving)
    if not len(rows) or not len(tracks):
        return
    predicted = Motion(table.mean[tracks], table.cov[tracks])
    overlap = box_iou(state.boxes[rows], predicted.boxes())
    centred = _diou(overlap, state.boxes[rows], predicted.boxes())
    allowed = (overlap >= _IOU) | _near(state.boxes[rows], predicted)
    allowed &= state.labels[rows][:, None] == table.labels[tracks][None]
    cost = np.where(allowed, 1 - centred, np.inf)
    if state.can_embed and weight:
        stale = state.seconds - table.seen[tracks] > _STALE_SECONDS
        _weigh_appearance(table, state, rows, tracks, cost, overlap, stale, weight, limit)
    found, given = assign(cost)
    state.owners[rows[found]] = tracks[given]


def match_low(table: TrackTable, state: FrameState, wanted: np.ndarray, is_free: np.ndarray) -> None:
    """Give the boxes of low confidence, (N,) mask `wanted`, to tracks that are still free, (T,) mask."""
    rows, tracks = state.free(wanted), np.flatnonzero(table.moving & is_free)
    if not len(rows) or not len(tracks):
        return
    overlap = box_iou(state.boxes[rows], Motion(table.mean[tracks], table.cov[tracks]).boxes())
    allowed = (overlap >= _LOW_IOU) & (state.labels[rows][:, None] == table.labels[tracks][None])
    found, given = assign(np.where(allowed, 1 - overlap, np.inf))
    state.owners[rows[found]] = tracks[given]


def _diou(overlap: np.ndarray, boxes: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return IoU less the squared distance of the centres over that of the corners of both (Zheng et al., AAAI 2020)."""
    distance = to_centre(boxes)[:, None, :2] - to_centre(predicted)[None, :, :2]
    low = np.minimum(boxes[:, None, :2], predicted[None, :, :2])
    high = np.maximum(boxes[:, None, 2:], predicted[None, :, 2:])
    return overlap - (distance**2).sum(2) / np.maximum(((high - low) ** 2).sum(2), 1e-9)


def _near(boxes: np.ndarray, predicted: Motion) -> np.ndarray:
    """Return where (N, T) a box lies within the uncertainty of a prediction and is between half and twice as high."""
    measured = to_centre(boxes)
    variance = predicted.cov[:, 0, :2] + (JITTER * sizes(predicted.mean)) ** 2  # (T, 2)
    error = measured[:, None, :2] - predicted.mean[None, :, 0, :2]
    ratio = measured[:, None, 3] / np.maximum(predicted.mean[None, :, 0, 3], 1.0)
    return ((error**2 / variance[None]).sum(2) <= _SURE) & (ratio > 0.5) & (ratio < 2)


def _weigh_appearance(
    table: TrackTable,
    state: FrameState,
    rows: np.ndarray,
    tracks: np.ndarray,
    cost: np.ndarray,
    overlap: np.ndarray,
    stale: np.ndarray,
    weight: float,
    limit: float,
) -> None:
    """Mix the appearance into the costs (N, T), in place, for boxes with several possible tracks, or tracks with several boxes."""
    possible = np.isfinite(cost) & (overlap >= _RIVAL_IOU)
    possible |= np.isfinite(cost) & stale[None]
    uncertain = (
        (possible.sum(1) > 1) | (possible & (possible.sum(0) > 1)[None]).any(1) | (possible & stale[None]).any(1)
    )
    uncertain &= (np.isfinite(cost) & (table.counts[tracks] > 0)[None]).any(1)
    chosen = np.flatnonzero(uncertain)
    if not len(chosen):
        return
    distances = appearance_distances(state.embeddings(rows[chosen]), table.vectors[tracks], table.counts[tracks])
    evidence = np.where(np.isfinite(distances), np.clip(distances / (2 * limit), 0, 1), 0.5)
    cost[chosen] = (1 - weight) * cost[chosen] + weight * evidence
    cost[chosen] += np.where(stale[None] & np.isfinite(distances) & (distances > 1.5 * limit), np.inf, 0)
