"""Second boxes of somebody: detectors without non-maximum suppression, or boxes around a part or around two people."""

from __future__ import annotations

import numpy as np

from .appearance import appearance_distances
from .frame_state import FrameState
from .overlap import box_iou, nested_shares
from .track_table import TrackTable

_NESTED = 0.75  # share of the smaller of two boxes in the other, above which the less sure one is a second box
_IOU = 0.3  # overlap from which a box that looks like the other one's track is a second box


def without_duplicates(table: TrackTable, state: FrameState, rows: np.ndarray, limit: float) -> np.ndarray:
    """Return those of the boxes `rows`, which have no track, that may start one.

    A box is left out that is nested with a box that has a track, or with a surer one of `rows`, or that overlaps with a box
    that has a track and shows the same person.

    Args:
        limit: cosine distance up to which two crops may show one person.
    """
    if not len(rows):
        return rows
    kept = np.flatnonzero(state.owners >= 0).tolist()
    started: list[int] = []
    for row in rows[np.argsort(-state.scores[rows], kind="stable")].tolist():
        others = np.array([other for other in (*kept, *started) if state.labels[other] == state.labels[row]], np.int64)
        if not _is_second(table, state, row, others, limit):
            started.append(row)
    return np.array(sorted(started), np.int64)


def _is_second(table: TrackTable, state: FrameState, row: int, others: np.ndarray, limit: float) -> bool:
    """Whether the box of a row shows somebody who has one of the other boxes."""
    if not len(others):
        return False
    box, boxes = state.boxes[[row]], state.boxes[others]
    if nested_shares(box, boxes).max() > _NESTED:
        return True
    close = others[box_iou(box, boxes)[0] >= _IOU]
    tracks = state.owners[close[state.owners[close] >= 0]]
    tracks = tracks[table.counts[tracks] > 0]
    if not len(tracks) or not state.can_embed or limit <= 0:
        return False
    found = appearance_distances(state.embeddings(np.array([row])), table.vectors[tracks], table.counts[tracks])
    return bool(found.min() <= limit)
