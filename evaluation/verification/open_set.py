"""Open-set search (the person may be missing from the gallery): detection and identification rate against false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..retrieval_data import RetrievalData, takes_arrays
from .pairs import OwnPairs, Pairs, look_up
from .roc import largest_threshold, share_within

REPORTED_FARS = ("1e-1", "1e-2")


@dataclass(frozen=True, eq=False)
class OpenSetResult:
    """Distances of the nearest item with and without the person in the gallery; the rates follow. Fractions 0-1.

    A mated search is for a person in the gallery. The detection and identification rate (DIR) is the share of mated searches
    that find the right person at rank 1 and within the threshold; FAR is the share of non-mated searches with any item within
    the threshold (open-set, or watch-list, identification: Grother & Ngan, NISTIR 8009; Jain & Li's handbook).

    Args:
        mated: (V,) float32 distance to the nearest item of the right person, for each query with a match, in their order.
        is_first: (V,) True where that item is the nearest of all.
        non_mated: (U,) float32 distance to the nearest of all items of other people, for each query, in their order.
    """

    mated: np.ndarray
    is_first: np.ndarray
    non_mated: np.ndarray

    @property
    def num_mated(self) -> int:
        """Number of mated searches, V: the person is in the gallery."""
        return len(self.mated)

    @property
    def num_non_mated(self) -> int:
        """Number of non-mated searches, U: the person is not in the gallery."""
        return len(self.non_mated)

    def dir_at_far(self, far: float) -> float:
        """Return the largest DIR whose FAR is at most `far`; NaN where `far` is below 1 / num_non_mated."""
        threshold = self.threshold_at(far)
        if math.isnan(threshold):
            return math.nan
        found = self._found()
        return share_within(found, threshold) * len(found) / self.num_mated if len(found) else 0.0

    def threshold_at(self, far: float) -> float:
        """Return the largest observed distance with a FAR of at most `far`; NaN if `far` is below 1 / num_non_mated."""
        return largest_threshold(np.sort(self.non_mated), self._found(), far)

    def _found(self) -> np.ndarray:
        """Return the ascending distances of the mated searches with the right person at rank 1."""
        return np.sort(self.mated[self.is_first])

    def summary(self) -> dict[str, float]:
        """Return DIR at FAR 1e-1 and 1e-2 as plain floats; NaN where there are too few searches."""
        return {f"DIR@FAR={far}": self.dir_at_far(float(far)) for far in REPORTED_FARS}


@takes_arrays
def evaluate_open_set(data: RetrievalData) -> OpenSetResult:
    """Search for each query twice: with its person in the gallery, and with all images of the person removed.

    One pass over blocks of queries does both. The first search is left out for a query without a match, the second for a
    query whose person is the only one in the gallery. Items at equal distances rank in gallery order.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
    Raises:
        ValueError: `RetrievalData` refuses the input, no query has a match, or the gallery holds no other person.
    """
    pairs = Pairs(data)
    parts = [
        search(distances, pairs.own_pairs(start, len(distances)), pairs.num_impostor[start : start + len(distances)])
        for start, distances in pairs.blocks()
    ]
    mated, is_first, non_mated = (np.concatenate(column) for column in zip(*parts, strict=True))
    return OpenSetResult(mated.astype(np.float32), is_first, non_mated.astype(np.float32))


def search(distances: Tensor, own: OwnPairs, num_wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `mated` (v,), `is_first` (v,) and `non_mated` (u,) of a block of distances (b, G), which are overwritten.

    Args:
        own: the pairs of each query with items of the same pid.
        num_wrong: (b,) number of items of other people.
    """
    rows, columns, mated = nearest_right(distances, own)
    index = (torch.from_numpy(part).to(distances.device) for part in own[:2])
    distances[tuple(index)] = torch.inf
    non_mated = distances.amin(1).cpu().numpy()
    is_first = mated < non_mated[rows]
    for i in np.flatnonzero(mated == non_mated[rows]):  # a tie with a wrong item: the first in gallery order counts
        is_first[i] = not (distances[rows[i], : columns[i]] == mated[i]).any()
    return mated, is_first, non_mated[num_wrong > 0]


def nearest_right(distances: Tensor, own: OwnPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and distance (v,) of the nearest relevant item of each row that has one; the first among equals."""
    rows, columns = own.rows[own.is_genuine], own.columns[own.is_genuine]
    found = look_up(distances, rows, columns)
    order = np.lexsort((columns, found, rows))
    best = order[np.unique(rows[order], return_index=True)[1]]
    return rows[best], columns[best], found[best]
