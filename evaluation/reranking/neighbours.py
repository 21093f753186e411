"""The nearest neighbours of every crop among all crops, and the mutual ones among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..distances.pairwise import BLOCK_ELEMENTS, distance_blocks
from ..input_checks import CHUNK_ELEMENTS


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The `k` nearest of N crops for each of them.

    Args:
        index: (N, k) rows of the neighbours, nearest first; each crop is its own first neighbour.
        farthest: (N,) squared distance to the farthest of all crops, or of some of them, above 0.
    """

    index: np.ndarray
    farthest: np.ndarray

    def within(self, k: int) -> sparse.csr_array:
        """Return the (N, N) matrix with a 1 where column j is one of the first `k` neighbours of row i."""
        count = len(self.index)
        columns = np.sort(self.index[:, :k], axis=1).ravel()
        return sparse.csr_array(
            (np.ones(count * k, np.float32), columns, np.arange(0, count * k + 1, k)), shape=(count, count)
        )

    def mutual(self, k: int) -> sparse.csr_array:
        """Return the (N, N) matrix with a 1 where i and j are among each other's first `k` neighbours."""
        within = self.within(k)
        return (within * within.T.tocsr()).tocsr()


def find_neighbours(features: Tensor, k: int) -> Neighbours:
    """Return the `k` nearest of the features (N, D), by euclidean distance, in blocks of rows."""
    index, farthest = [], []
    for start, distances in distance_blocks(features, features):
        farthest.append(distances.amax(1).clamp(min=1e-12))
        rows = torch.arange(len(distances), device=features.device)
        distances[rows, start + rows] = -1  # each crop is its own first neighbour, even among exact copies
        index.append(distances.topk(k, largest=False).indices.int())
    return Neighbours(torch.cat(index).cpu().numpy(), torch.cat(farthest).cpu().numpy())


def pair_distances(features: Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the squared distances (P,) between the features `rows` (P,) and `columns` (P,) of (N, D)."""
    chunk = max(1, (BLOCK_ELEMENTS if features.is_cuda else CHUNK_ELEMENTS) // features.shape[1])
    distances = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), chunk):
        pairs = slice(start, start + chunk)
        left, right = (features[torch.from_numpy(index[pairs]).to(features.device)] for index in (rows, columns))
        distances[pairs] = left.sub_(right).square_().sum(1).cpu().numpy()
    return distances
