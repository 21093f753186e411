"""CUHK03's first protocol: the gallery holds one image per identity, drawn anew several times."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from ..common.errors import UserError
from .input_checks import Features, Labels, check_finite, pair_of_features, squared_norms
from .matches import Matches, as_label_arrays
from .reranking.neighbours import distance_blocks
from .retrieval_result import RetrievalResult, check_any_valid


def evaluate_single_shot(
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    metric: str = "euclidean",
    repeats: int = 10,
    seed: int = 0,
    max_rank: int = 50,
) -> RetrievalResult:
    """Rank one drawn gallery image per identity, and average over draws (Li et al., CVPR 2014).

    Gallery items of the query's own pid and camera are junk and never drawn. Equal distances stand in gallery order.
    A drawn gallery holds one match, so a row's AP and INP are both 1 / rank; torchreid draws only for the CMC and gives
    the mAP of the whole gallery, which is `evaluate_retrieval`'s. All items of one pid are one identity, distractors too.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; on a GPU the gallery's device computes the distances.
        q_pids, g_pids: (Q,) and (G,) identities.
        q_camids, g_camids: (Q,) and (G,) cameras.
        metric: "euclidean" or "cosine"; the same ranking for embeddings of unit length.
        repeats: number of galleries drawn for each query.
        seed: of the draws, 0 or more; each query has a generator of its own.
        max_rank: length of the CMC curve.
    Returns:
        A result with `repeats` rows per valid query.
    Raises:
        ValueError: an array is empty, has NaN or a wrong length, no query has a match, or an argument is out of range.
    """
    for name, value, least in (("repeats", repeats, 1), ("max_rank", max_rank, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name}: {least} or more, got {value}")
    query, gallery = _comparable(query, gallery, metric)
    labels = as_label_arrays(q_pids, g_pids, q_camids, g_camids, len(query), len(gallery))
    people = _People(labels[1])
    matches = Matches(*labels, "same-camera")
    ranks: dict[int, np.ndarray] = {}
    for start, distances in distance_blocks(query, gallery):
        for i, row in enumerate(distances.cpu().numpy(), start):
            relevant, _ = matches.of(i)
            if len(relevant):
                drawn, own = people.draw(labels[0][i], relevant, repeats, np.random.default_rng((seed, i)))
                ranks[i] = _rank_of(own, drawn, row)
    return _result(ranks, len(query), max_rank)


def _comparable(query: Features, gallery: Features, metric: str) -> tuple[Tensor, Tensor]:
    """Return (Q, D) and (G, D) whose euclidean distances order as `metric` does."""
    if metric not in ("euclidean", "cosine"):
        raise UserError(f"metric: unknown value {metric!r}; choose from cosine, euclidean")
    query, gallery = pair_of_features(query, gallery)
    check_finite("query", squared_norms(query))
    check_finite("gallery", squared_norms(gallery))
    return (query, gallery) if metric == "euclidean" else (normalize(query), normalize(gallery))


class _People:
    """The gallery's P identities, of which one image each is drawn."""

    def __init__(self, g_pids: np.ndarray) -> None:
        self.pids, self.counts = np.unique(g_pids, return_counts=True)
        self.by_pid = np.argsort(g_pids, kind="stable")
        self.starts = np.cumsum(self.counts) - self.counts

    def draw(
        self, pid: int, relevant: np.ndarray, repeats: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return gallery indices (repeats, P), one per identity, and (repeats, 1), those of `pid`, taken from `relevant`."""
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
    """Return the result of the ranks (repeats,) of each valid query."""
    check_any_valid(len(ranks), num_queries)
    first_hit = np.stack(list(ranks.values()))  # (V, repeats)
    query_index = np.repeat(list(ranks), first_hit.shape[1])
    first_hit = first_hit.ravel()
    return RetrievalResult(query_index, 1 / first_hit, 1 / first_hit, first_hit, num_queries, max_rank)
