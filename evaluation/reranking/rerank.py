"""k-reciprocal re-ranking in sparse form: memory grows with N x k, not with N x N."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ...common.errors import UserError
from ..distances.blockwise import block_rows, map_rows
from ..distances.pairwise import distance_blocks
from ..input_checks import Features, check_finite, pair_of_features, squared_norms
from .neighbours import Neighbours, find_neighbours, pair_distances


def k_reciprocal(query: Features, gallery: Features, k1: int = 20, k2: int = 6, lam: float = 0.3) -> Tensor:
    """Re-rank the gallery by the neighbours that two crops share (Zhong et al., CVPR 2017, arXiv:1701.08398).

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; their distances are squared euclidean, divided by the largest of each query.
        k1: neighbours considered per crop, 1 or more.
        k2: neighbours averaged in the local query expansion, 1 or more; 1 = no averaging.
        lam: share of the original distance in the result, 0-1.
    Returns:
        (Q, G) float32 distances in [0, 1] on the CPU; smaller is closer.
    Raises:
        ValueError: D differs between the two, an array has NaN, or k1, k2 or lam is out of range.
    """
    query, gallery = pair_of_features(query, gallery)
    check_options(k1, k2, lam, len(query) + len(gallery))
    for name, features in (("query", query), ("gallery", gallery)):
        check_finite(name, squared_norms(features))
    return torch.cat([block.clone() for block in reranked_blocks(query, gallery, k1, k2, lam)])


def check_options(k1: int, k2: int, lam: float, count: int) -> None:
    """Raise ValueError if a parameter of the re-ranking does not fit `count` = Q + G crops."""
    for name, k in (("k1", k1), ("k2", k2)):
        if not 1 <= k < count:
            raise UserError(
                f"{name}: takes 1 to {count - 1} neighbours with {count} crops of query and gallery, got {k}"
            )
    if not 0 <= lam <= 1:
        raise UserError(f"lam: a share between 0 and 1, got {lam}")


@torch.no_grad()
def reranked_blocks(query: Tensor, gallery: Tensor, k1: int, k2: int, lam: float) -> Iterator[Tensor]:
    """Yield the re-ranked distances (b, G) of consecutive blocks of queries, in one buffer: use each before the next."""
    crops = torch.cat([query, gallery])
    neighbours = find_neighbours(crops, max(k1 + 1, k2))
    weights = average_weights(neighbour_weights(crops, neighbours, k1), neighbours, k2)
    of_gallery = weights[len(query) :].tocsc()  # column j: the gallery items with crop j as a neighbour
    for start, distances in distance_blocks(query, gallery, block_rows(len(gallery))):
        rows = slice(start, start + len(distances))
        original = distances.cpu().div_(torch.from_numpy(neighbours.farthest[rows, None]))
        yield original.mul_(lam).add_(jaccard_distances(weights[rows], of_gallery), alpha=1 - lam)


def neighbour_weights(crops: Tensor, neighbours: Neighbours, k1: int) -> sparse.csr_array:
    """Return the (N, N) weights of each crop's expanded k-reciprocal neighbours: exp(-distance), each row with sum 1."""
    members = expanded_neighbours(neighbours, k1)
    rows = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    distances = pair_distances(crops, rows, members.indices) / neighbours.farthest[rows]
    members.data = np.exp(-distances)
    members.data /= members.sum(1)[rows]
    return members


def expanded_neighbours(neighbours: Neighbours, k1: int) -> sparse.csr_array:
    """Return (N, N), non-zero where j is a k1-reciprocal neighbour of i, or of i's neighbours.

    The k1 / 2-reciprocal neighbours of a neighbour join if more than two thirds of them are neighbours of i already.
    """
    near = neighbours.mutual(k1 + 1)
    half = neighbours.mutual(round(k1 / 2) + 1)  # + 1: the crop itself is one of them
    sizes = half.sum(1)
    joining = ((near @ half.T) * near).tocsr()  # (i, c): how many of c's half are near i, for c near i
    joining.data = (joining.data > 2 / 3 * sizes[joining.indices]).astype(np.float32)
    return (near + joining @ half).tocsr()


def average_weights(weights: sparse.csr_array, neighbours: Neighbours, k2: int) -> sparse.csr_array:
    """Return each row as the mean of its first `k2` neighbours' rows (local query expansion)."""
    return (neighbours.within(k2) @ weights / np.float32(k2)).tocsr()


def jaccard_distances(queries: sparse.csr_array, gallery: sparse.csc_array) -> Tensor:
    """Return 1 - |min| / |max| (b, G) of the weights of queries (b, N) and gallery (G, N); every row has sum 1."""

    overlap = np.empty((queries.shape[0], gallery.shape[0]), np.float32)

    def fill(i: int) -> np.ndarray:
        own = slice(queries.indptr[i], queries.indptr[i + 1])
        overlap[i] = sum_of_minima(queries.indices[own], queries.data[own], gallery)
        return overlap[i]

    map_rows(fill, len(overlap))
    shared = torch.from_numpy(overlap)
    return shared.div_(2 - shared).neg_().add_(1)


def sum_of_minima(neighbours: np.ndarray, weights: np.ndarray, gallery: sparse.csc_array) -> np.ndarray:
    """Return for each row g of gallery (G, N) the sum over `neighbours` j of min(weight of j, gallery[g, j]), float64 (G,)."""
    starts, lengths = gallery.indptr[neighbours], np.diff(gallery.indptr)[neighbours]
    firsts = np.cumsum(lengths) - lengths
    entries = np.repeat(starts - firsts, lengths) + np.arange(lengths.sum())  # entries of the columns, concatenated
    minima = np.minimum(np.repeat(weights, lengths), gallery.data[entries])
    return np.bincount(gallery.indices[entries], minima, gallery.shape[0])
