"""Query expansion and database-side augmentation: embeddings averaged with their nearest neighbours in the gallery."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...common.errors import UserError
from ..distances.pairwise import distance_blocks
from ..input_checks import Features, as_features, check_finite, pair_of_features, squared_norms


def expand_queries(query: Features, gallery: Features, k: int = 10, alpha: float = 3.0) -> Tensor:
    """Add to each query its `k` nearest gallery items, weighted by similarity ** alpha; search with the result.

    Average query expansion (Chum et al., ICCV 2007); the weights are those of Radenović et al., TPAMI 2019. The query itself
    has weight 1; an item with negative cosine similarity has weight 0, or 1 if alpha is 0.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; rows are scaled to unit length first.
        k: number of gallery items per query, 0 to G.
        alpha: 0 or more; 0 = the plain average.
    Returns:
        (Q, D) rows of unit length on the gallery's device.
    Raises:
        ValueError: D differs between the two, an array is empty or has NaN, or k or alpha is out of range.
    """
    query, gallery = pair_of_features(query, gallery)
    _check_options(k, alpha, len(gallery), len(gallery))
    query, gallery = unit_rows("query", query), unit_rows("gallery", gallery)
    return _expanded(query, gallery, distance_blocks(query, gallery), k, alpha)


def augment_database(gallery: Features, k: int = 10, alpha: float = 3.0) -> Tensor:
    """Add to each gallery item its `k` nearest others, weighted by similarity ** alpha; search in the result.

    Database-side feature augmentation (Arandjelović & Zisserman, CVPR 2012), with the weights of `expand_queries`.

    Args:
        gallery: (G, D) embeddings; rows are scaled to unit length first.
        k: number of neighbours in addition to the item itself, 0 to G - 1.
        alpha: 0 or more; 0 = the plain average.
    Returns:
        (G, D) rows of unit length on the gallery's device.
    Raises:
        ValueError: the array is empty or has NaN, or k or alpha is out of range.
    """
    gallery = as_features("gallery", gallery)
    _check_options(k, alpha, len(gallery) - 1, len(gallery))
    gallery = unit_rows("gallery", gallery)
    return _expanded(gallery, gallery, map(without_itself, distance_blocks(gallery, gallery)), k, alpha)


def _check_options(k: int, alpha: float, most: int, num_gallery: int) -> None:
    """Raise ValueError if `k` is not between 0 and `most`, or `alpha` is negative or NaN."""
    if not 0 <= k <= most:
        raise UserError(f"k: takes 0 to {most} neighbours with {num_gallery} gallery items, got {k}")
    if not alpha >= 0:
        raise UserError(f"alpha: an exponent of 0 or more, got {alpha}")


def unit_rows(name: str, features: Tensor) -> Tensor:
    """Return the rows of (N, D) scaled to unit length; rows of zeros stay."""
    check_finite(name, squared_norms(features))
    return normalize(features)


def without_itself(block: tuple[int, Tensor]) -> tuple[int, Tensor]:
    """Set each row's distance to itself, in a block of the square distance matrix, to infinity."""
    start, distances = block
    distances.diagonal(start).fill_(torch.inf)
    return block


@torch.no_grad()
def _expanded(rows: Tensor, gallery: Tensor, blocks: Iterable[tuple[int, Tensor]], k: int, alpha: float) -> Tensor:
    """Return rows (N, D) plus their weighted nearest gallery items, scaled to unit length; the rows of both inputs have it."""
    expanded = rows.clone()
    for start, distances in blocks:
        nearest, index = distances.topk(k, largest=False)  # (b, k)
        weights = (1 - nearest / 2).clamp(min=0).pow(alpha)  # squared distance of unit-length rows = 2 - 2 cos
        total = expanded[start : start + len(distances)]  # (b, D)
        for weight, neighbour in zip(weights.T, index.T, strict=True):  # one by one: no (b, k, D) copy
            total.addcmul_(weight[:, None], gallery[neighbour])
    return normalize(expanded)
