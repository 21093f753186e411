"""The sparse graph of crops that share k-reciprocal neighbours: Jaccard similarities above 0 of pairs of near crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch.nn.functional import normalize

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

    The similarity is 1 - the Jaccard distance of Zhong et al. (CVPR 2017, arXiv:1701.08398). Pairs without a shared
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
    first, second = near_pairs(neighbours, reach + 1)
    found = _jaccard(features, first, second, k1, k2, neighbours)
    kept = found > 0
    return SimilarPairs(first[kept], second[kept], found[kept])


@torch.no_grad()
def mixed_pairs(
    features: Features,
    k1: Sequence[int] = (20, 30, 40),
    k2: int = 6,
    share: float = 0.3,
    *,
    reach: int | None = None,
    neighbours: Neighbours | None = None,
) -> SimilarPairs:
    """Return near pairs with the mean of their Jaccard similarities for several `k1`, mixed with their cosine.

    A small k1 misses images of people who were seen often, a large one takes in others of those seen seldom; the mean suffers less
    from either. The cosine is that of the centred features, 0 if negative.

    Args:
        k1: one or more.
        share: of the cosine, 0 to 1.
        features, k2, reach, neighbours: as for `jaccard_pairs`, with the largest k1.
    """
    features = as_features("features", features)
    check_finite("features", squared_norms(features))
    most = max(k1)
    reach = min(REACH * most if reach is None else reach, len(features) - 1)
    for each in k1:
        check_options(each, k2, share, len(features))
    if neighbours is None:
        neighbours = find_neighbours(features, max(most + 1, k2, reach + 1))
    first, second = near_pairs(neighbours, reach + 1)
    found = np.zeros(len(first), np.float32)
    for each in k1:
        found += _jaccard(features, first, second, each, k2, neighbours) * np.float32((1 - share) / len(k1))
    found += np.float32(share) * _cosines(features, first, second)
    kept = found > 0
    return SimilarPairs(first[kept], second[kept], found[kept])


def _cosines(features: torch.Tensor, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosines (P,) of the centred features, 0 if negative."""
    found, unit = np.empty(len(first), np.float32), features - features.mean(0)
    unit = normalize(unit, out=unit)
    for start in range(0, len(first), CHUNK_PAIRS):
        some = slice(start, start + CHUNK_PAIRS)
        one, other = (unit[torch.from_numpy(rows[some]).long()] for rows in (first, second))
        found[some] = one.mul_(other).sum(1).clamp_(0, 1).cpu().numpy()
    return found


def _jaccard(
    features: torch.Tensor, first: np.ndarray, second: np.ndarray, k1: int, k2: int, neighbours: Neighbours
) -> np.ndarray:
    """Return the Jaccard similarities (P,) float32 of pairs of rows."""
    weights = average_weights(neighbour_weights(features, neighbours, k1), neighbours, k2)
    weights.sort_indices()
    parts = map_shares(lambda share: _shared_weights(weights, first[share], second[share]), len(first))
    shared = np.minimum(np.concatenate(parts), 1)  # rounding
    return shared / (2 - shared)


def near_pairs(neighbours: Neighbours, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs first < second, (P,) int32 each, where one is among the first `k` neighbours of the other, ascending."""
    near = neighbours.index[:, :k]
    count, width = near.shape
    rows = max(1, CHUNK_PAIRS // width)
    keys = np.empty(near.size, np.int64)  # first * N + second
    for start in range(0, count, rows):
        second = near[start : start + rows]
        first = np.repeat(np.arange(start, start + len(second)), second.shape[1])
        low, high = np.minimum(first, second.ravel()), np.maximum(first, second.ravel())
        keys[start * width : (start + len(second)) * width] = np.where(low < high, low * count + high, -1)
    keys.sort()
    is_new = keys >= 0  # no crop with itself
    is_new[1:] &= keys[1:] != keys[:-1]
    keys = keys[is_new]
    return (keys // count).astype(np.int32), (keys % count).astype(np.int32)


def _shared_weights(weights: sparse.csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sum of the smaller weights of each pair (P,) of rows; every row of `weights` (N, N) has sum 1."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), CHUNK_PAIRS):
        some = slice(start, start + CHUNK_PAIRS)
        found[some] = weights[first[some]].minimum(weights[second[some]]).sum(1)
    return found
