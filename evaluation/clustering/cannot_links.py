"""Rows that are two people because one camera saw both at once: found from times, and held in clusters made without regard to them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .average_linkage import Constraints, average_linkage, in_order
from .cluster_figures import pairs_among
from .jaccard_graph import CHUNK_PAIRS, SimilarPairs

ANY = 1e-12  # mean similarity of two groups that have one at all


def seen_together(nodes: np.ndarray, clocks: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the pairs of nodes (tracklets, or images) that one clock saw at the same time: two people, but for `unless_similar`.

    A span lacks its end: it does not overlap with one that starts there. A moment is a span of no length, and equal moments overlap.

    Args:
        nodes: (N,) node of each row, 0 or more; a node lasts from its first start to its last end on a clock.
        clocks: (N,) what the times are compared on: a camera, a recording; -1 = unknown.
        start, end: (N,) of each row; NaN = unknown.
    Returns:
        (C, 2) int64, the smaller node first, ascending, each pair once.
    """
    known = np.flatnonzero((clocks >= 0) & ~np.isnan(start))
    spans, span = np.unique(np.stack([clocks[known], nodes[known]]), axis=1, return_inverse=True)
    span = span.reshape(-1)
    first, last = np.full(spans.shape[1], np.inf), np.full(spans.shape[1], -np.inf)
    np.minimum.at(first, span, start[known])
    np.maximum.at(last, span, np.where(np.isnan(end), start, end)[known])
    order = np.lexsort((-last, first, spans[0]))  # a moment after the spans that start there
    found: list[tuple[int, int]] = []
    for part in np.split(order, np.flatnonzero(np.diff(spans[0][order])) + 1):
        found += _sweep(spans[1][part].tolist(), first[part].tolist(), last[part].tolist())
    pairs = np.sort(np.array(found, np.int64).reshape(-1, 2), axis=1)
    return np.unique(pairs, axis=0)


def _sweep(nodes: list[int], first: list[float], last: list[float]) -> list[tuple[int, int]]:
    """Return the pairs of nodes, given in the order of `first`, that overlap."""
    found: list[tuple[int, int]] = []
    seen: list[int] = []
    for place, begin in enumerate(first):
        seen = [other for other in seen if last[other] > begin or first[other] == begin]
        for other in seen:
            if last[other] > begin or (last[other] == begin and last[place] == begin):
                found.append((nodes[other], nodes[place]))
        seen.append(place)
    return found


def unless_similar(apart: np.ndarray, near: np.ndarray, is_single: np.ndarray) -> np.ndarray:
    """Return the pairs (C, 2) of rows seen at once without those that a detector may have made of one person.

    A detector that finds somebody twice in one picture gives two images that look similar; two people seldom do. On Market-1501's
    training images 99 % of such images are among each other's 60 nearest, and 2 % of two people's. Tracklets are kept apart, however
    similar.

    Args:
        apart: (C, 2) rows.
        near: (N, k) nearest rows of each row: two look similar that are among each other's. Times must not have counted, as these are equal.
        is_single: (N,) bool: rows of no tracklet.
    """
    parts = np.split(apart, range(CHUNK_PAIRS, len(apart), CHUNK_PAIRS))
    both = np.concatenate(
        [_holds(near, first, second) & _holds(near, second, first) for first, second in (part.T for part in parts)]
    )
    return apart[~(is_single[apart].all(1) & both)]


def _holds(near: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (C,) bool: others (C,) that are among the nearest of the rows (C,)."""
    return (near[rows] == others[:, None]).any(1)


def parted(groups: np.ndarray, pairs: SimilarPairs, constraints: Constraints) -> np.ndarray:
    """Return clusters (N,) in which no two rows are that cannot be together; those that obey are as they were.

    A cluster with such rows is taken apart and put together again by `average_linkage`, as far as its rows are similar at all and
    may be together. Rows that must be together win over those that cannot, as there.

    Args:
        groups: (N,) cluster of each row, -1 = outlier.
        pairs: similarities of pairs of rows, each pair once.
    """
    rows = np.flatnonzero(groups >= 0)
    components = constraints.components()[0]
    count = int(components.max(initial=-1)) + 1
    cells, first, cell = np.unique(groups[rows] * count + components[rows], return_index=True, return_inverse=True)
    one, other = _in_one_group(cells // max(count, 1), cells % max(count, 1), components[constraints.apart])
    wrong = np.unique(groups[rows[first[one]]])
    if not len(wrong):
        return groups
    inside = np.isin(groups[rows], wrong)
    kept, leaders = rows[inside], rows[first]
    place = np.full(len(groups), -1)
    place[kept] = np.arange(len(kept))
    near = groups[pairs.first] == groups[pairs.second]
    held = Constraints(
        together=np.stack([place[leaders[cell[inside]]], np.arange(len(kept))], axis=1),
        apart=np.stack([place[leaders[one]], place[leaders[other]]], axis=1),
        owners=np.full(len(kept), -1),
    )
    within = pairs_among(SimilarPairs(*(column[near] for column in pairs)), kept, len(groups))
    found = groups.copy()
    found[kept] = groups.max() + 1 + average_linkage(len(kept), within, ANY, held)
    return in_order(found)


def _in_one_group(groups: np.ndarray, components: np.ndarray, apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of cells, each a group and a component, that share a group and whose components are apart (C, 2)."""
    apart = apart[apart[:, 0] != apart[:, 1]]
    shape = int(max(components.max(initial=-1), apart.max(initial=-1))) + 1, int(groups.max(initial=-1)) + 1
    table = sparse.csr_array((np.arange(1, len(groups) + 1), (components, groups)), shape=shape)
    sides = [table[apart[:, side]] for side in (0, 1)]
    found = [mine.multiply(their != 0).tocsr() for mine, their in (sides, sides[::-1])]
    for matrix in found:
        matrix.sort_indices()
    return found[0].data - 1, found[1].data - 1
