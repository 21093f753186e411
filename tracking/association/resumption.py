"""Second stage: people who were lost are found again by their appearance."""

from __future__ import annotations

import numpy as np

from .appearance import appearance_distances, remember
from .assignment import assign
from .frame_state import FrameState
from .kalman import sizes
from .track_table import TrackTable

LEAST_HITS = 3  # boxes of a track before its appearance is trusted
_SPEED = 4.0  # box sizes per second: nobody is found again farther away than this allows
_REACH = 1.0  # box sizes in addition


def match_lost(table: TrackTable, state: FrameState, rows: np.ndarray, lost: np.ndarray, limit: float) -> None:
    """Give boxes `rows` to `lost` tracks, rows of the table, of the least cosine distance up to `limit`."""
    lost = lost[(table.counts[lost] > 0) & (table.hits[lost] >= LEAST_HITS)]
    if not len(rows) or not len(lost) or not state.can_embed:
        return
    possible = _reachable(table, state.boxes[rows], state.seconds, lost)
    possible &= state.labels[rows][:, None] == table.labels[lost][None]
    rows, possible = rows[possible.any(1)], possible[possible.any(1)]
    if not len(rows):
        return
    distances = appearance_distances(state.embeddings(rows), table.vectors[lost], table.counts[lost])
    found, given = assign(np.where(possible & (distances <= limit), distances, np.inf))
    state.owners[rows[found]] = lost[given]


def rename_young(table: TrackTable, state: FrameState, seconds: float, limit: float) -> list[tuple[int, int]]:
    """Give tracks that are younger than some seconds the id of the lost track that they look like; return (id so far, new id).

    The first crop of somebody who comes back is often cut by the border, so the first frames may not show who it is.
    The lost row is marked by `seen` = -inf.
    """
    rows = np.flatnonzero(state.owners >= 0)
    rows = rows[state.embedded(rows)]
    young = rows[state.seconds - table.first[state.owners[rows]] < seconds]
    if not len(young):
        return []
    lost = np.flatnonzero((table.seen < state.seconds) & (table.counts > 0) & (table.hits >= LEAST_HITS))
    if not len(lost):
        return []
    own = state.owners[young]
    possible = table.first[own][:, None] > table.seen[lost][None]  # never seen at the same time
    possible &= _reachable(table, state.boxes[young], state.seconds, lost)
    possible &= table.labels[own][:, None] == table.labels[lost][None]
    distances = appearance_distances(state.embeddings(young), table.vectors[lost], table.counts[lost])
    found, given = assign(np.where(possible & (distances <= limit), distances, np.inf))
    renamed = list(zip(table.ids[own[found]].tolist(), table.ids[lost[given]].tolist()))
    for one, other in zip(own[found], lost[given]):
        _merge(table, one, other)
    return renamed


def _merge(table: TrackTable, young: int, lost: int) -> None:
    """Make the young track the continuation of the lost one."""
    vectors, count = table.vectors[lost].copy(), int(table.counts[lost])
    for place in range(table.counts[young]):
        count = remember(vectors, count, table.vectors[young, place])
    table.vectors[young], table.counts[young] = vectors, count
    table.ids[young], table.first[young] = table.ids[lost], table.first[lost]
    table.hits[young] += table.hits[lost]
    table.seen[lost] = -np.inf


def _reachable(table: TrackTable, boxes: np.ndarray, seconds: float, lost: np.ndarray) -> np.ndarray:
    """Return where (N, L) somebody could have walked to; after a cut, everywhere."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.abs(centre[:, None] - table.mean[None, lost, 0, :2]).max(2) / sizes(table.mean[lost]).T
    return (away <= _REACH + _SPEED * (seconds - table.seen[lost])[None]) | table.displaced[lost][None]
