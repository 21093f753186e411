"""Evaluation with one gallery image per identity, drawn several times: CUHK03's first protocol, and VehicleID's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.nn.functional import normalize

from ..common.errors import UserError
from .distances.pairwise import distance_blocks
from .retrieval_data import RetrievalData, takes_arrays
from .retrieval_result import RetrievalResult, check_any_valid


@takes_arrays
def evaluate_single_shot(
    data: RetrievalData, *, repeats: int = 10, seed: int = 0, max_rank: int = 50
) -> RetrievalResult:
    """Rank one drawn gallery image per identity, and average over draws (Li et al., CVPR 2014).

    The item of the query's person is drawn among the relevant ones, never from junk. Equal distances rank in gallery order.
    A drawn gallery holds one match, so a row's AP and INP are both 1 / rank; torchreid draws only for the CMC and gives
    the mAP of the whole gallery, which is `evaluate_retrieval`'s. All items of one pid are one identity, distractors too.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
        repeats: number of galleries drawn for each query.
        seed: of the draws, 0 or more; each query has its own generator.
        max_rank: length of the CMC curve.
    Returns:
        A result with `repeats` rows per valid query.
    Raises:
        ValueError: `RetrievalData` refuses the input, no query has a match, or an argument is out of range.
    """
    _check_arguments(repeats, seed, max_rank)
    people = _People(data.g_pids)
    ranks: dict[int, np.ndarray] = {}
    for i, row, relevant in _rows_with_matches(data):
        drawn, own = people.draw(data.q_pids[i], relevant, repeats, np.random.default_rng((seed, i)))
        ranks[i] = _rank_of(own, drawn, row)
    return _result(ranks, len(data.query), max_rank)


@takes_arrays
def evaluate_drawn_galleries(
    data: RetrievalData, *, repeats: int = 10, seed: int = 0, max_rank: int = 50
) -> RetrievalResult:
    """Draw galleries with one image per identity, rank them for all other images, and average (VehicleID: Liu et al., CVPR 2016).

    A query counts in each draw in which the drawn image of its identity is no junk for it, so its own file is never its match.
    Each such row has one match: AP and INP are both 1 / rank. Equal distances rank in gallery order.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one; query and gallery may hold the same images.
        repeats: number of galleries drawn; each query is compared with the same ones.
        seed: of the draws, 0 or more.
        max_rank: length of the CMC curve.
    Returns:
        A result with one row per query and draw in which it counts.
    Raises:
        ValueError: `RetrievalData` refuses the input, no query ever counts, or an argument is out of range.
    """
    _check_arguments(repeats, seed, max_rank)
    people = _People(data.g_pids)
    rng = np.random.default_rng(seed)
    drawn = people.by_pid[people.starts + rng.integers(people.counts, size=(repeats, len(people.counts)))]
    ranks: dict[int, np.ndarray] = {}
    for i, row, relevant in _rows_with_matches(data):
        own = drawn[:, np.searchsorted(people.pids, data.q_pids[i])][:, None]
        counts = np.isin(own[:, 0], relevant)
        if counts.any():
            ranks[i] = _rank_of(own[counts], drawn[counts], row)
    return _result(ranks, len(data.query), max_rank)


def _check_arguments(repeats: int, seed: int, max_rank: int) -> None:
    for name, value, least in (("repeats", repeats, 1), ("max_rank", max_rank, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name}: {least} or more, got {value}")


def _rows_with_matches(data: RetrievalData) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the position, the distances (G,) and the relevant items of each query that has any."""
    query, gallery = data.query, data.gallery
    if data.metric == "cosine":  # euclidean distances of rows of unit length order as the cosine
        query, gallery = normalize(query), normalize(gallery)
    for start, distances in distance_blocks(query, gallery):
        for i, row in enumerate(distances.cpu().numpy(), start):
            relevant, _ = data.matches.of(i)
            if len(relevant):
                yield i, row, relevant


class _People:
    """The P identities of the gallery; draws one image of each."""

    def __init__(self, g_pids: np.ndarray) -> None:
        self.pids, self.counts = np.unique(g_pids, return_counts=True)
        self.by_pid = np.argsort(g_pids, kind="stable")
        self.starts = np.cumsum(self.counts) - self.counts

    def draw(
        self, pid: int, relevant: np.ndarray, repeats: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return gallery rows (repeats, P), one per identity, and (repeats, 1), those of `pid`, drawn from `relevant`."""
        chosen = rng.integers(self.counts, size=(repeats, len(self.counts)))
        drawn = self.by_pid[self.starts + chosen]
        own = rng.choice(relevant, (repeats, 1))
        drawn[:, np.searchsorted(self.pids, pid)] = own[:, 0]
        return drawn, own


def _rank_of(own: np.ndarray, drawn: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the ranks (repeats,) of the items `own` (repeats, 1) among `drawn` (repeats, P), by distances (G,)."""
    others, wanted = distances[drawn], distances[own]
    return ((others < wanted) | ((others == wanted) & (drawn < own))).sum(1) + 1


def _result(ranks: dict[int, np.ndarray], num_queries: int, max_rank: int) -> RetrievalResult:
    """Return the result of the ranks, one per draw in which it counts, of each valid query."""
    check_any_valid(len(ranks), num_queries)
    query_index = np.repeat(list(ranks), [len(found) for found in ranks.values()])
    first_hit = np.concatenate(list(ranks.values()))
    return RetrievalResult(query_index, 1 / first_hit, 1 / first_hit, first_hit, num_queries, max_rank)
