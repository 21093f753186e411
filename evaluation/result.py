"""The numbers of one retrieval evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What each valid query found; the averages follow from it. Fractions 0-1.

    A query is valid if the gallery holds at least one relevant item; the others are left out of every average.

    Args:
        query_index: (V,) which of the queries are valid.
        ap: (V,) average precision: the mean, over the relevant items, of the precision at each.
        inp: (V,) inverse negative penalty: number of relevant items over the rank of the last (Ye et al., TPAMI 2021).
        first_hit: (V,) rank of the first relevant item, from 1.
        num_queries: number of all queries, Q.
        max_rank: length of the CMC curve.
    """

    query_index: np.ndarray
    ap: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray
    num_queries: int
    max_rank: int = 50

    @property
    def num_valid(self) -> int:
        """Number of valid queries, V."""
        return len(self.ap)

    @property
    def mAP(self) -> float:
        """Mean average precision."""
        return float(self.ap.mean())

    @property
    def mINP(self) -> float:
        """Mean inverse negative penalty."""
        return float(self.inp.mean())

    @property
    def cmc(self) -> np.ndarray:
        """(max_rank,) share of queries with a relevant item among the first 1, 2, ..."""
        hits = np.bincount(np.minimum(self.first_hit, self.max_rank + 1), minlength=self.max_rank + 2)
        return np.cumsum(hits)[1 : self.max_rank + 1] / self.num_valid

    def rank(self, k: int) -> float:
        """Return the share of queries with a relevant item among the first `k`.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"k: ranks start at 1, got {k}")
        return float((self.first_hit <= k).mean())

    def summary(self) -> dict[str, float]:
        """Return mAP, mINP and Rank-1, -5, -10, -20 as plain floats."""
        return {"mAP": self.mAP, "mINP": self.mINP, **{f"Rank-{k}": self.rank(k) for k in REPORTED_RANKS}}


def result_of_ranks(ranks: list[np.ndarray], max_rank: int) -> RetrievalResult:
    """Return the result of the ascending ranks of each query's relevant items, one array (R,) per query.

    Raises:
        ValueError: no query has a relevant item.
    """
    valid = np.flatnonzero([len(found) for found in ranks])
    if not len(valid):
        raise ValueError(
            f"none of the {len(ranks)} queries has a match in the gallery: no gallery item has the pid of a query and, under the "
            "protocol same-camera, another camera; check pids and camids, or use protocol 'none' if cameras are unknown"
        )
    found = [ranks[i] for i in valid]
    return RetrievalResult(
        query_index=valid,
        ap=np.array([np.mean(np.arange(1, len(row) + 1) / row) for row in found]),
        inp=np.array([len(row) / row[-1] for row in found]),
        first_hit=np.array([row[0] for row in found]),
        num_queries=len(ranks),
        max_rank=max_rank,
    )
