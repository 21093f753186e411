"""Add the embeddings of mutual nearest neighbours: two crops that find each other first mostly show one person."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...common.errors import UserError
from ..distances.pairwise import distance_blocks
from ..input_checks import Features, as_features, pair_of_features
from ..reranking.expansion import unit_rows, without_itself


@torch.no_grad()
def centralise(gallery: Features, k: int = 2) -> Tensor:
    """Add to each gallery item those of its `k` nearest others that have it among their `k` nearest others.

    Neighbour feature centralisation (NFC, Pose2ID: Yuan et al., CVPR 2025, arXiv:2503.00938).

    Args:
        gallery: (G, D) embeddings; rows are scaled to unit length first.
        k: number of neighbours, 0 to G - 1; 0 = only scale.
    Returns:
        (G, D) rows of unit length.
    Raises:
        ValueError: the array is empty or has NaN, or k is out of range.
    """
    gallery = as_features("gallery", gallery)
    _check_k(k, len(gallery) - 1, "gallery item")
    gallery = unit_rows("gallery", gallery)
    index = _nearest(map(without_itself, distance_blocks(gallery, gallery)), k)[0]
    own = torch.arange(len(gallery), device=gallery.device)[:, None]
    found = gallery.clone()
    for neighbour in index.T:  # one by one: no (G, k, D) copy
        is_mutual = (index[neighbour] == own).any(1)
        found[is_mutual] += gallery[neighbour[is_mutual]]
    return normalize(found)


@torch.no_grad()
def centralise_queries(query: Features, gallery: Features, k: int = 2) -> Tensor:
    """Add to each query those of its `k` nearest gallery items that would have it among their `k` nearest.

    Each query is alone with the gallery, as in a search; queries do not see each other.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings before `centralise`; rows are scaled to unit length first.
        k: number of neighbours, 0 to G - 1; 0 = only scale.
    Returns:
        (Q, D) rows of unit length on the gallery's device.
    Raises:
        ValueError: D differs between the two, an array is empty or has NaN, or k is out of range.
    """
    query, gallery = pair_of_features(query, gallery)
    _check_k(k, len(gallery) - 1, "gallery item")
    query, gallery = unit_rows("query", query), unit_rows("gallery", gallery)
    if not k:
        return query
    reach = _nearest(map(without_itself, distance_blocks(gallery, gallery)), k)[1][:, -1]
    index, distances = _nearest(distance_blocks(query, gallery), k)
    found = query.clone()
    for neighbour, distance in zip(index.T, distances.T, strict=True):
        is_mutual = distance <= reach[neighbour]
        found[is_mutual] += gallery[neighbour[is_mutual]]
    return normalize(found)


def _nearest(blocks: Iterable[tuple[int, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Return rows (N, k) and squared distances (N, k) of the nearest columns in consecutive blocks of distances, nearest first."""
    found = [distances.topk(k, largest=False) for _, distances in blocks]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])


def _check_k(k: int, most: int, what: str) -> None:
    if not 0 <= k <= most:
        raise UserError(f"k: takes 0 to {most} neighbours per {what}, got {k}")
