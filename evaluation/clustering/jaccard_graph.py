"""The sparse graph of crops that share k-reciprocal neighbours: Jaccard similarities above 0 of pairs of near crops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from ...common.errors import UserError
from ..distances.blockwise import map_shares
from ..input_checks import Features, as_features, check_finite, squared_norms
from ..reranking.neighbours import Neighbours, find_neighbours
from ..reranking.rerank import average_weights, check_options, neighbour_weights

CHUNK_PAIRS = 2**15  # pairs compared at once: their rows of weights take some 100 MB
REACH = 2  # neighbours whose pairs are compared, as a multiple of k1


class SimilarPairs(NamedTuple):
    """SimilarPairs of rows, each once: first and second (P,) with first < second, and a value (P,) of each."""

    first: np.ndarray
    second: np.ndarray
    value: np.ndarray


@torch.no_grad()
def jaccard_pairs(
    features: Features, k1: int = 30, k2: int = 6, *, reach: int | None = None, neighbours: Neighbours | None = None
) -> SimilarPairs:
    """Return the pairs of near crops that share k-reciprocal neighbours, with their Jaccard similarity, 0 to 1.

    The similarity is 1 - the Jaccard distance of Zhong et al. (CVPR 2017, arXiv:1701.08398). SimilarPairs without a shared
    neighbour, and those that are not near, are left out: their similarity counts as 0.

    Args:
        features: (N, D) embeddings, compared by euclidean distance.
        k1, k2: as for `k_reciprocal`.
        reach: two crops are near if one is among the first `reach` neighbours of the other; None = REACH * k1.
        neighbours: of the features, at least max(k1 + 1, k2, reach) of each; None = computed here, exactly.
    Returns:
        SimilarPairs with float32 similarities above 0, in ascending order of (first, second). Memory grows with N * k1.
    Raises:
        ValueError: the features are empty or hold NaN, or k1, k2 or reach is out of range.
    """
    features = as_features("features", features)
    check_finite("features", squared_norms(features))
    reach = min(REACH * k1 if reach is None else reach, len(features) - 1)
    check_options(k1, k2, 0, len(features))
    if reach < 1:
        raise UserError(f"reach: takes 1 or more neighbours, got {reach}")
    if neighbours is None:
        neighbours = find_neighbours(features, max(k1 + 1, k2, reach + 1))
    weights = average_weights(neighbour_weights(features, neighbours, k1), neighbours, k2)
    weights.sort_indices()
    first, second = near_pairs(neighbours, reach + 1)
    shared = np.concatenate(map_shares(lambda share: _shared_weights(weights, first[share], second[share]), len(first)))
    found = shared > 0
    shared = np.minimum(shared[found], 1)  # rounding
    return SimilarPairs(first[found], second[found], shared / (2 - shared))


def near_pairs(neighbours: Neighbours, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs first < second, (P,) int32 each, where one is among the first `k` neighbours of the other."""
    within = neighbours.within(k)
    upper = sparse.triu(within + within.T, 1, format="csr")
    rows = np.repeat(np.arange(upper.shape[0], dtype=np.int32), np.diff(upper.indptr))
    order = sparse.csr_array((np.ones(len(rows), np.int8), upper.indices, upper.indptr), shape=upper.shape)
    order.sort_indices()
    return rows, order.indices.astype(np.int32, copy=False)


def _shared_weights(weights: sparse.csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sum of the smaller weights of each pair (P,) of rows; every row of `weights` (N, N) has sum 1."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), CHUNK_PAIRS):
        some = slice(start, start + CHUNK_PAIRS)
        found[some] = weights[first[some]].minimum(weights[second[some]]).sum(1)
    return found
