"""The numbers of one retrieval evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..common.errors import UserError

REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """The figures of each valid query; the averages follow from them. Fractions 0-1.

    A query is valid if the gallery holds at least one relevant item; the others are left out of every average.
    There is one row per valid query, or one per valid query and draw if the gallery is drawn several times.

    Args:
        query_index: (V,) the query of each row; ascending.
        ap: (V,) average precision: the mean, over the relevant items, of the precision at each.
        inp: (V,) inverse negative penalty: number of relevant items over the rank of the last (Ye et al., TPAMI 2021).
        first_hit: (V,) rank of the first relevant item, from 1.
        num_queries: number of all queries, valid or not, Q.
        max_rank: length of the CMC curve.
        interpolated_ap: (V,) area under straight lines between the points of recall and precision, as in the code of Market-1501's
            and MARS's authors; None = not known, of drawn galleries.
    """

    query_index: np.ndarray
    ap: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray
    num_queries: int
    max_rank: int = 50
    interpolated_ap: np.ndarray | None = None

    @property
    def num_valid(self) -> int:
        """Number of distinct valid queries."""
        return len(np.unique(self.query_index))

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
        return np.cumsum(hits)[1 : self.max_rank + 1] / len(self.first_hit)

    def rank(self, k: int) -> float:
        """Return the share of queries with a relevant item among the first `k`.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise UserError(f"k: ranks start at 1, got {k}")
        return float((self.first_hit <= k).mean())

    def interpolated(self) -> RetrievalResult:
        """Return the result with `interpolated_ap` as average precision.

        Raises:
            ValueError: it is not known.
        """
        if self.interpolated_ap is None:
            raise UserError("interpolated average precision: not known of drawn galleries")
        return replace(self, ap=self.interpolated_ap)

    def rows(self) -> dict[str, np.ndarray]:
        """Return the values (V,) per row behind mAP, mINP and Rank-1, -5, -10, -20, by name; each figure is a mean."""
        return {"mAP": self.ap, "mINP": self.inp, **{f"Rank-{k}": self.first_hit <= k for k in REPORTED_RANKS}}

    def summary(self) -> dict[str, float]:
        """Return mAP, mINP and Rank-1, -5, -10, -20 as plain floats."""
        return {name: float(values.mean()) for name, values in self.rows().items()}


def result_of_ranks(ranks: list[np.ndarray], max_rank: int) -> RetrievalResult:
    """Return the result of the ascending ranks of each query's relevant items, one array (R,) per query.

    Raises:
        ValueError: no query has a relevant item.
    """
    lengths = np.array([len(found) for found in ranks])
    valid = np.flatnonzero(lengths)
    check_any_valid(len(valid), len(ranks))
    lengths, flat = lengths[valid], np.concatenate(ranks)
    starts = np.cumsum(lengths) - lengths
    number = np.arange(1, len(flat) + 1) - np.repeat(starts, lengths)  # 1, 2, ... R of each query's relevant items
    before = np.where(flat > 1, (number - 1) / np.maximum(flat - 1, 1), 1.0)  # precision one rank above each
    return RetrievalResult(
        query_index=valid,
        ap=np.add.reduceat(number / flat, starts) / lengths,
        inp=lengths / flat[starts + lengths - 1],
        first_hit=flat[starts],
        num_queries=len(ranks),
        max_rank=max_rank,
        interpolated_ap=np.add.reduceat((before + number / flat) / 2, starts) / lengths,
    )


def check_any_valid(num_valid: int | np.integer, num_queries: int) -> None:
    """Raise ValueError if none of the queries is valid."""
    if not num_valid:
        raise UserError(
            f"none of the {num_queries} queries has a match in the gallery: no gallery item has the pid of a query and is another "
            "image than the query, under the protocol same-camera from another camera (other protocols: see PROTOCOLS); check pids "
            "and camids, or use the protocol 'own-file' if cameras are unknown"
        )
