"""The similarities and the limit by which crops of unknown people are grouped, in galleries and in training without labels."""

from __future__ import annotations

from collections.abc import Callable

from ..input_checks import Features, as_features, check_finite, squared_norms
from ..reranking.neighbours import Neighbours, find_neighbours
from .jaccard_graph import REACH, SimilarPairs, mixed_pairs

LEAST = 0.22  # mean similarity of two groups that merge: chosen on training people, see docs/identities.md
SCALES = (2 / 3, 1, 4 / 3)  # of k1, whose similarities are averaged


def person_pairs(
    features: Features, k1: int = 30, k2: int = 6, find: Callable[[int], Neighbours] | None = None
) -> SimilarPairs:
    """Return the similarities of near crops that `average_linkage` groups by person, from LEAST on: `mixed_pairs` at SCALES of k1.

    Neighbourhoods that are larger than the number of other crops are cut to it.

    Args:
        features: (N, D) embeddings, compared by euclidean distance; three rows or more.
        k1: neighbours of a crop that may show its person.
        k2: as for `k_reciprocal`.
        find: k -> the k nearest of the features for each; None = found exactly.
    Raises:
        ValueError: the features hold NaN, or are too few.
    """
    features = as_features("features", features)
    check_finite("features", squared_norms(features))
    most = len(features) - 1
    scaled = [min(max(1, round(scale * k1)), most) for scale in SCALES]
    k2, reach = min(k2, most), min(REACH * max(scaled), most)
    count = max(k2, reach + 1)
    neighbours = find(count) if find is not None else find_neighbours(features, count)
    return mixed_pairs(features, scaled, k2, reach=reach, neighbours=neighbours)
