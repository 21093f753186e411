"""Average linkage over a sparse graph, with pairs that must and pairs that cannot be in one group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from .jaccard_graph import SimilarPairs


@dataclass(eq=False)
class _Links:
    """What is known of the pairs of groups: each once, first < second.

    Args:
        first, second: (P,) groups.
        total: (P,) sum of the similarities of their rows' pairs.
        forbidden: (P,) number of pairs of their rows that cannot be together.
    """

    first: np.ndarray
    second: np.ndarray
    total: np.ndarray
    forbidden: np.ndarray

    def renamed(self, groups: np.ndarray, count: int) -> _Links:
        """Return the links of larger groups; `groups` (old number of groups,) has the new group of each, below `count`."""
        groups = groups.astype(np.int32)
        one, other = groups[self.first], groups[self.second]
        kept = one != other
        first, second = np.minimum(one, other)[kept], np.maximum(one, other)[kept]
        total, forbidden = (
            sparse.coo_array((values[kept], (first, second)), shape=(count, count)).tocsr()
            for values in (self.total, self.forbidden)
        )
        for matrix in (total, forbidden):
            matrix.sort_indices()
        rows = np.repeat(np.arange(count, dtype=np.int32), np.diff(total.indptr))
        return _Links(rows, total.indices, total.data, forbidden.data)


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is known of N rows before they are clustered.

    Args:
        together: (M, 2) pairs of rows of one group.
        apart: (C, 2) pairs of rows of two groups; `together` and `owners` win over it.
        owners: (N,) int64, -1 = unknown: rows of one owner share a group, rows of two owners do not.
    Raises:
        ValueError: `together` joins rows of two owners.
    """

    together: np.ndarray
    apart: np.ndarray
    owners: np.ndarray

    @classmethod
    def none(cls, count: int) -> Constraints:
        """Return no constraint on `count` rows."""
        return cls(np.empty((0, 2), np.int64), np.empty((0, 2), np.int64), np.full(count, -1))

    def among(self, kept: np.ndarray) -> Constraints:
        """Return the constraints on some rows, ascending (n,), which are numbered 0 to n - 1."""
        place = np.full(len(self.owners), -1)
        place[kept] = np.arange(len(kept))
        together, apart = (place[pairs] for pairs in (self.together, self.apart))
        return Constraints(together[(together >= 0).all(1)], apart[(apart >= 0).all(1)], self.owners[kept])

    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the component (N,) of each row joined by `together` and owners, and the owner of each component."""
        count = len(self.owners)
        owned = np.flatnonzero(self.owners >= 0)
        first = owned[np.unique(self.owners[owned], return_index=True)[1]]  # one row of each owner
        leader = np.full(int(self.owners.max(initial=-1)) + 1, -1)
        leader[self.owners[first]] = first
        joined = np.concatenate([self.together, np.stack([owned, leader[self.owners[owned]]], axis=1)])
        graph = sparse.coo_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(count, count))
        labels = connected_components(graph, directed=False)[1].astype(np.int64)
        owners = np.full(int(labels.max(initial=-1)) + 1, -1)
        owners[labels[owned]] = self.owners[owned]
        if (owners[labels[owned]] != self.owners[owned]).any():
            raise ValueError("constraints: rows that must be together belong to two owners")
        return labels, owners


def average_linkage(
    count: int, pairs: SimilarPairs, least: float, constraints: Constraints | None = None
) -> np.ndarray:
    """Merge the two groups with the largest mean similarity until no two have `least`; pairs left out count as 0.

    All pairs of groups that are each other's nearest merge at once. This gives the same groups as one merge at a time
    (reciprocal nearest neighbours: Murtagh, The Computer Journal 26, 1983). Work and memory grow with the number of pairs.

    Args:
        count: number of rows, N.
        pairs: similarities of pairs of rows, each pair once.
        least: smallest mean similarity of two groups that merge, above 0.
        constraints: on the rows; None = no constraint.
    Returns:
        (N,) int64 group of each row: 0, 1, … in the order of their first rows.
    """
    if not least > 0:
        raise ValueError(f"least: a similarity above 0, got {least}")
    constraints = constraints or Constraints.none(count)
    labels, owners = constraints.components()
    links = _first_links(pairs, constraints.apart).renamed(labels, len(owners))
    sizes = np.bincount(labels, minlength=len(owners))
    while True:
        merged = _merge(links, sizes, owners, least)
        if merged is None:
            return in_order(labels)
        labels, count = merged[labels], int(merged.max()) + 1
        links = links.renamed(merged, count)
        sizes = np.bincount(merged, sizes, count).astype(np.int64)
        joined = np.full(count, -1)
        np.maximum.at(joined, merged, owners)
        owners = joined


def _first_links(pairs: SimilarPairs, apart: np.ndarray) -> _Links:
    zeros, none = np.zeros(len(apart)), np.zeros(len(pairs.first), np.int32)
    return _Links(
        np.concatenate([pairs.first, apart[:, 0].astype(np.int32)]),
        np.concatenate([pairs.second, apart[:, 1].astype(np.int32)]),
        np.concatenate([pairs.value.astype(np.float64), zeros]),
        np.concatenate([none, np.ones(len(apart), np.int32)]),
    )


def _merge(links: _Links, sizes: np.ndarray, owners: np.ndarray, least: float) -> np.ndarray | None:
    """Return the new group of each group, None if no two merge.

    Among equal similarities the pair with the smallest numbers goes first, so at least one pair merges.
    """
    mean = links.total / (sizes[links.first] * sizes[links.second])
    is_owned = (owners[links.first] >= 0) & (owners[links.second] >= 0)  # by two: those of one have merged
    can = np.flatnonzero((mean >= least) & (links.forbidden == 0) & ~is_owned)
    if not len(can):
        return None
    first, second, mean = links.first[can], links.second[can], mean[can]
    best = np.zeros(len(sizes))
    np.maximum.at(best, first, mean)
    np.maximum.at(best, second, mean)
    mutual = (mean == best[first]) & (mean == best[second])
    first, second = first[mutual], second[mutual]
    partner = np.full(len(sizes), len(sizes), np.int64)
    np.minimum.at(partner, first, second)
    np.minimum.at(partner, second, first)
    chosen = (partner[first] == second) & (partner[second] == first)
    target = np.arange(len(sizes))
    target[second[chosen]] = first[chosen]
    return np.unique(target, return_inverse=True)[1]


def in_order(labels: np.ndarray) -> np.ndarray:
    """Return labels (N,) renumbered 0, 1, … in the order of their first rows; -1 stays."""
    known, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(known), np.int64)
    order = np.argsort(np.where(known < 0, -1, first), kind="stable")
    rank[order] = np.arange(len(known)) - int((known < 0).sum())
    return rank[inverse]
