"""All pairs of a query and a gallery item: genuine, junk or impostor, with their distances, one block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError
from ..distances.pairwise import DISTANCES
from ..retrieval_data import RetrievalData
from ..retrieval_result import check_any_valid


class OwnPairs(NamedTuple):
    """The P pairs of a block of queries with gallery items of the same pid.

    Args:
        rows: (P,) row of the query in the block, ascending.
        columns: (P,) row of the item in the gallery.
        is_genuine: (P,) True where the item is relevant, False where it is junk.
    """

    rows: np.ndarray
    columns: np.ndarray
    is_genuine: np.ndarray


class Pairs:
    """All pairs of Q queries and G gallery items: genuine (relevant), junk (ignored) or impostor (another pid).

    Args:
        data: queries and gallery.

    Raises:
        ValueError: there is no genuine or no impostor pair.
    """

    def __init__(self, data: RetrievalData) -> None:
        self.data, self.matches = data, data.matches
        self.num_genuine, self.num_impostor = self._count()
        check_any_valid(int(np.count_nonzero(self.num_genuine)), len(data.query))
        if not self.num_impostor.any():
            raise UserError(
                f"g_pids: each of the {len(data.gallery)} gallery items has the pid of each query, so there is no impostor "
                "pair; add other people to the gallery"
            )

    def _count(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of genuine and of impostor pairs of each query, (Q,) each."""
        num_queries = len(self.data.query)
        sizes = np.array([[len(items) for items in self.matches.of(i)] for i in range(num_queries)], np.int64)
        return sizes[:, 0], len(self.data.gallery) - sizes.sum(1)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first query, distances (b, G)) in one buffer: use each before the next; it may be overwritten."""
        return DISTANCES[self.data.metric](self.data.query, self.data.gallery)

    def own(self, query: int) -> np.ndarray:
        """Return the ascending gallery rows of all items of the query's pid, junk included."""
        return np.sort(np.concatenate(self.matches.of(query)))

    def own_pairs(self, start: int, count: int) -> OwnPairs:
        """Return the pairs of queries `start` to `start + count` with items of the same pid."""
        items = [self.matches.of(i) for i in range(start, start + count)]
        parts = [part for item in items for part in item]  # relevant, junk, relevant, junk, ...
        sizes = [len(part) for part in parts]
        return OwnPairs(
            rows=np.repeat(np.repeat(np.arange(count), 2), sizes),
            columns=np.concatenate(parts),
            is_genuine=np.repeat(np.tile([True, False], count), sizes),
        )


def look_up(distances: Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the entries (P,) of distances (b, G) at `rows` (P,) and `columns` (P,)."""
    index = (torch.from_numpy(rows).to(distances.device), torch.from_numpy(columns).to(distances.device))
    return distances[index].cpu().numpy()
