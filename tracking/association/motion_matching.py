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
_CLOSER = 2.0  # times nearer to another track: looks like that one
_SECOND_IOU = 0.3  # overlap with the box of the track that it looks like, above which a box is a second one of it
_STALE_SECONDS = 0.3  # unseen for longer, a track is not continued by its prediction alone if an embedding can be had


class Looks(NamedTuple):
    """How appearance counts in the first stage.

    Args:
        weight: its share in the cost of uncertain pairs.
        limit: cosine distance at which two crops show one person or two with equal probability; 0 = not known yet.
        interval: seconds after which a track's appearance is looked at again; longer for a well-known one, see `is_due`.
    """

    weight: float
    limit: float
    interval: float


def match_moving(
    table: TrackTable, state: FrameState, wanted: np.ndarray, is_free: np.ndarray, looks: Looks, low: bool
) -> None:
    """Give boxes, (N,) mask `wanted`, to predicted tracks that are free, (T,) mask.

    Args:
        low: the boxes have a low confidence; they must overlap more, as such a box may be a part of something else, and are never
            embedded, as the crop of such a box shows too little.
    """
    rows, tracks = state.free(wanted), np.flatnonzero(table.moving & is_free)
    if not len(rows) or not len(tracks):
        return
    predicted, boxes = table.motion_of(tracks), state.boxes[rows]
    expected = predicted.boxes()
    overlap = box_iou(boxes, expected)
    allowed = overlap >= (_LOW_IOU if low else _IOU)
    if not low:
        allowed |= _near(boxes, predicted)
    allowed &= state.labels[rows][:, None] == table.labels[tracks][None]
    if not allowed.any():
        return
    cost = np.where(allowed, 1 - _diou(overlap, boxes, expected), np.inf)
    counts = state.can_embed and looks.weight > 0 and looks.limit > 0
    if counts and not low:
        cost = _with_appearance(table, state, rows, tracks, cost, overlap, looks)
    found, given = assign(cost)
    rows, tracks = rows[found], tracks[given]
    kept = _plausible(table, state, rows, tracks, looks.limit) if counts else np.ones(len(rows), bool)
    state.owners[rows[kept]] = tracks[kept]


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
) -> np.ndarray:
    """Return the costs (N, T), with appearance where it decides or where an embedding of the likeliest track is due anyway."""
    stale = state.seconds - table.seen[tracks] > _STALE_SECONDS
    known = np.isfinite(cost) & (table.counts[tracks] > 0)
    clear = state.is_clear[rows]
    due = clear & (known & table.is_due(tracks, state.seconds, looks.interval))[np.arange(len(rows)), cost.argmin(1)]
    uncertain = _uncertain(np.isfinite(cost), overlap, stale) & known.any(1)
    chosen = np.flatnonzero(due | uncertain)
    if not len(chosen):
        return cost
    vectors = state.embeddings(rows[chosen])
    distances = appearance_distances(vectors, table.vectors[tracks], table.counts[tracks])
    evidence = np.where(np.isfinite(distances), np.clip(distances / (2 * looks.limit), 0, 1), 0.5)
    mixed = cost.copy()
    mixed[chosen] = (1 - looks.weight) * cost[chosen] + looks.weight * evidence
    unlike = np.isfinite(distances) & (distances > _UNLIKE * looks.limit) & clear[chosen][:, None]
    mixed[chosen] = np.where(unlike & stale[None], np.inf, mixed[chosen])
    return mixed


def _plausible(table: TrackTable, state: FrameState, rows: np.ndarray, tracks: np.ndarray, limit: float) -> np.ndarray:
    """Return the mask (P,) of the matches to keep.

    Somebody who turns round looks different, and that alone ends no match. A match of a clear box ends if the box looks like
    another track instead, which has no box, or a box that looks like another track too (the two were exchanged), or a box that
    this one overlaps (a second box of that person).
    """
    looked = state.is_clear[rows] & state.embedded(rows)
    if not looked.any():
        return np.ones(len(rows), bool)
    distances = np.full((len(rows), len(table)), np.nan)
    distances[looked] = appearance_distances(state.embeddings(rows[looked]), table.vectors, table.counts)
    places = np.arange(len(rows))
    own = distances[places, tracks]
    distances[places, tracks] = np.inf
    target = np.where(looked[:, None], distances, np.inf).argmin(1)
    nearest = distances[places, target]
    wrong = looked & np.isfinite(own) & (own > _UNLIKE * limit) & ((nearest <= limit) | (own > _CLOSER * nearest))
    holder = np.full(len(table), -1)  # the match that has the track
    holder[tracks] = places
    holders = holder[target]
    taken = holders >= 0
    doubled = taken & (box_iou(state.boxes[rows], state.boxes[rows])[places, holders] >= _SECOND_IOU)
    while True:
        still = wrong & (~taken | doubled | wrong[holders])
        if (still == wrong).all():
            return ~wrong
        wrong = still


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
