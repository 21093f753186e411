"""DBSCAN over a sparse graph of similar pairs: groups of dense neighbourhoods, and outliers."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.cluster import DBSCAN
from sklearn.neighbors import sort_graph_by_row_values

from ...common.errors import UserError
from .average_linkage import in_order
from .jaccard_graph import SimilarPairs


def density_clusters(
    count: int, pairs: SimilarPairs, eps: float = 0.6, min_samples: int = 4, together: np.ndarray | None = None
) -> np.ndarray:
    """Return the cluster (N,) int64 of each row: 0, 1, … in the order of their first rows, -1 = outlier (Ester et al., KDD 1996).

    Args:
        count: number of rows, N.
        pairs: similarities of pairs of rows, each pair once; pairs left out are too far from each other.
        eps: largest distance, 1 - similarity, of two neighbours; above 0 and below 1.
        min_samples: neighbours, the row itself included, that make a row the core of a cluster.
        together: (M, 2) pairs of rows that count as equal, whatever their similarity, e.g. of one track; None = none.
    Raises:
        ValueError: eps or min_samples is out of range.
    """
    if not 0 < eps < 1:
        raise UserError(f"eps: a distance above 0 and below 1, got {eps}")
    if min_samples < 1:
        raise UserError(f"min_samples: 1 or more neighbours, got {min_samples}")
    distances = 1 - pairs.value
    near = distances <= eps
    first, second, distances = pairs.first[near], pairs.second[near], distances[near]
    if together is not None and len(together):
        first, second, distances = _with_equal(first, second, distances, together, count)
    itself = np.arange(count)
    values = np.concatenate([distances, distances, np.zeros(count, distances.dtype)])
    places = np.concatenate([first, second, itself]), np.concatenate([second, first, itself])
    graph = sparse.coo_matrix((values, places), shape=(count, count)).tocsr()
    graph = sort_graph_by_row_values(graph, copy=False, warn_when_not_sorted=False)
    found = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(graph)
    return in_order(found.astype(np.int64))


def _with_equal(
    first: np.ndarray, second: np.ndarray, distances: np.ndarray, together: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs first < second with their distances (P,), and those of `together` (M, 2) with distance 0, each pair once."""
    low, high = np.sort(together[together[:, 0] != together[:, 1]], axis=1).T
    keys = np.concatenate([low * count + high, first.astype(np.int64) * count + second])
    values = np.concatenate([np.zeros(len(low), distances.dtype), distances])
    keys, places = np.unique(keys, return_index=True)  # the first of equal keys is that of `together`
    return keys // count, keys % count, values[places]


def without_small(groups: np.ndarray, min_size: int) -> np.ndarray:
    """Return groups (N,), numbered anew, in which the rows of groups with fewer than `min_size` rows are outliers (-1).

    >>> without_small(np.array([2, 0, 2, 1, -1]), 2).tolist()
    [0, -1, 0, -1, -1]
    """
    sizes = np.bincount(groups + 1)
    return in_order(np.where((groups >= 0) & (sizes[groups + 1] >= min_size), groups, -1))
