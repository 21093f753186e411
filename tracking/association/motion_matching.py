"""First stage: boxes that lie where tracks are predicted; appearance decides where several pairs are possible."""

from __future__ import annotations

from typing import NamedTuple

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
_MARGIN = 0.35  # by which the overlap of a match must exceed that of a second pair to be certain
_SURE_IOU = 0.5  # overlap with the predicted box, above which a match can be certain
_UNLIKE = 1.25  # appearance limits apart: another person
_STALE_SECONDS = 0.3  # unseen for longer, a track is not continued by its prediction alone if an embedding can be had


class Looks(NamedTuple):
    """How appearance counts in the first stage.

    Args:
        weight: its share in the cost of uncertain pairs.
        limit: cosine distance at which two crops show one person or two with equal probability; 0 = not known yet.
        interval: seconds after which a track's appearance is looked at again.
    """

    weight: float
    limit: float
    interval: float


def match_moving(
    table: TrackTable, state: FrameState, wanted: np.ndarray, is_free: np.ndarray, looks: Looks, low: bool
) -> None:
    """Give boxes, (N,) mask `wanted`, to predicted tracks that are free, (T,) mask.

    Args:
        low: the boxes have a low confidence; they must overlap more, as such a box may be a part of something else.
    """
    rows, tracks = state.free(wanted), np.flatnonzero(table.moving & is_free)
    if not len(rows) or not len(tracks):
        return
    predicted = Motion(table.mean[tracks], table.cov[tracks])
    overlap = box_iou(state.boxes[rows], predicted.boxes())
    allowed = overlap >= (_LOW_IOU if low else _IOU)
    if not low:
        allowed |= _near(state.boxes[rows], predicted)
    allowed &= state.labels[rows][:, None] == table.labels[tracks][None]
    cost = np.where(allowed, 1 - _diou(overlap, state.boxes[rows], predicted.boxes()), np.inf)
    if state.can_embed and looks.weight and looks.limit > 0:
        cost = _with_appearance(table, state, rows, tracks, cost, overlap, looks, low)
    found, given = assign(cost)
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


def _with_appearance(
    table: TrackTable,
    state: FrameState,
    rows: np.ndarray,
    tracks: np.ndarray,
    cost: np.ndarray,
    overlap: np.ndarray,
    looks: Looks,
    low: bool,
) -> np.ndarray:
    """Return the costs (N, T), with appearance where it decides or where an embedding is due anyway."""
    stale = state.seconds - table.seen[tracks] > _STALE_SECONDS
    known = np.isfinite(cost) & (table.counts[tracks] > 0)
    clear = state.is_clear[rows]
    due = clear & (known & (state.seconds - table.embedded[tracks] >= looks.interval)[None]).any(1)
    uncertain = _uncertain(np.isfinite(cost), overlap, stale) & known.any(1)
    chosen = np.flatnonzero(due | uncertain)
    if not len(chosen):
        return cost
    everyone = appearance_distances(state.embeddings(rows[chosen]), table.vectors, table.counts)
    distances = everyone[:, tracks]
    evidence = np.where(np.isfinite(distances), np.clip(distances / (2 * looks.limit), 0, 1), 0.5)
    mixed = cost.copy()
    mixed[chosen] = (1 - looks.weight) * cost[chosen] + looks.weight * evidence
    # Somebody who turns round looks different; that ends a certain match of a sure box only if it looks like another track.
    doubted = uncertain[chosen] | (everyone <= looks.limit).any(1) | low
    unlike = np.isfinite(distances) & (distances > _UNLIKE * looks.limit) & doubted[:, None]
    mixed[chosen] = np.where(unlike & (stale[None] | clear[chosen][:, None]), np.inf, mixed[chosen])
    return mixed


def _uncertain(allowed: np.ndarray, overlap: np.ndarray, stale: np.ndarray) -> np.ndarray:
    """Return the mask (N,) of boxes without a track that they clearly match best, and that they match best."""
    found = np.where(allowed, overlap, 0)
    rows, columns = np.arange(len(found)), np.arange(found.shape[1])
    best = found.argmax(1)
    most = found[rows, best]
    others = found.copy()
    others[rows, best] = 0
    rival_track = others.max(1)
    others = found.copy()
    others[found.argmax(0), columns] = 0
    rival_box = others.max(0)[best]
    sure = (most >= _SURE_IOU) & (most - rival_track >= _MARGIN) & (most - rival_box >= _MARGIN) & ~stale[best]
    return allowed.any(1) & ~sure
