"""Query and gallery embeddings -> CMC, mAP, mINP; exact, without ever holding queries x gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError
from .blockwise import block_rows
from .centred_distances import Centred
from .input_checks import Features, Labels, as_features, check_finite, pair_of_features, squared_norms
from .matches import Matches, as_label_arrays
from .rank_counting import ranks_on_cpu, ranks_on_device
from .reranking.rerank import checked_pair, reranked_blocks
from .retrieval_result import RetrievalResult, result_of_ranks

Scores = Callable[[int, int], Tensor]  # start, stop of a block of queries -> its scores (B, G), free to be overwritten
Score = Callable[[Tensor, Tensor], Tensor]  # block of queries (B, D), where to write -> its scores (B, G)
AllLabels = tuple[Labels, Labels, Labels, Labels]  # q_pids, g_pids, q_camids, g_camids


def evaluate_retrieval(
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    metric: str = "euclidean",
    protocol: str = "same-camera",
    max_rank: int = 50,
    block: int | None = None,
) -> RetrievalResult:
    """Rank the gallery for each query by distance and judge the ranking.

    Equal distances stand in gallery order. Average precision is the mean of the precision at each hit, as in TransReID.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; on a GPU the gallery's device does the work.
        q_pids, g_pids: (Q,) and (G,) identities.
        q_camids, g_camids: (Q,) and (G,) cameras.
        metric: "euclidean" or "cosine"; the same ranking for embeddings of unit length.
        protocol: "same-camera" ignores gallery items of the query's pid and camera; "none" ignores nothing.
        max_rank: length of the CMC curve.
        block: queries per block; None = as many as keep the processor busy and the scores below 256 MiB.
    Raises:
        ValueError: an array is empty, has NaN or a wrong length, no query has a match, or an argument is unknown;
            the message names the array and the row.
    """
    query, gallery = pair_of_features(query, gallery)
    size = len(query), len(gallery)
    similarities = similarity(query, gallery, metric)
    scores = (similarities(start, stop) for start, stop in blocks(*size, block))
    return _judge(scores, size, (q_pids, g_pids, q_camids, g_camids), protocol, max_rank)


def evaluate_distances(
    distances: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    protocol: str = "same-camera",
    max_rank: int = 50,
    block: int | None = None,
) -> RetrievalResult:
    """Judge the ranking by ready-made distances (Q, G); smaller is closer. Else as `evaluate_retrieval`."""
    distances = as_features("distances", distances)
    size = len(distances), distances.shape[1]

    def scores() -> Iterator[Tensor]:
        for start, stop in blocks(*size, block):
            check_finite("distances", distances[start:stop], start)
            yield -distances[start:stop]

    return _judge(scores(), size, (q_pids, g_pids, q_camids, g_camids), protocol, max_rank)


def evaluate_reranked(
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    k1: int = 20,
    k2: int = 6,
    lam: float = 0.3,
    protocol: str = "same-camera",
    max_rank: int = 50,
) -> RetrievalResult:
    """Judge the ranking by `k_reciprocal`'s distances, whose arguments k1, k2 and lam are, without ever holding all of them."""
    query, gallery = checked_pair(query, gallery, k1, k2, lam)
    scores = (distances.neg_() for distances in reranked_blocks(query, gallery, k1, k2, lam))
    size = len(query), len(gallery)
    return _judge(scores, size, (q_pids, g_pids, q_camids, g_camids), protocol, max_rank)


def _judge(
    scores: Iterator[Tensor], size: tuple[int, int], labels: AllLabels, protocol: str, max_rank: int
) -> RetrievalResult:
    """Return the result of consecutive blocks of scores (b, G), higher = closer, which are overwritten; labels are checked first."""
    if max_rank < 1:
        raise UserError(f"max_rank: the CMC curve needs 1 or more ranks, got {max_rank}")
    q_pids, g_pids, q_camids, g_camids = as_label_arrays(*labels, *size)
    matches = Matches(q_pids, g_pids, q_camids, g_camids, protocol)
    ranks: list[np.ndarray] = []
    for values in scores:
        find_ranks = ranks_on_cpu if values.device.type == "cpu" else ranks_on_device
        ranks += find_ranks(values, [matches.of(len(ranks) + i) for i in range(len(values))])
    return result_of_ranks(ranks, max_rank)


def blocks(num_queries: int, num_gallery: int, size: int | None) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive ranges of `size` queries; None = block_rows(num_gallery)."""
    if size is not None and size < 1:
        raise UserError(f"block: 1 or more queries at a time, got {size}")
    size = size or block_rows(num_gallery)
    for start in range(0, num_queries, size):
        yield start, min(start + size, num_queries)


def similarity(query: Tensor, gallery: Tensor, metric: str) -> Scores:
    """Return the function that scores a block of queries; a score is higher where the distance is smaller.

    Euclidean: q.g - |g|^2 / 2, both seen from the middle of the gallery, which orders like -|q - g|. Cosine: q.g / |g|, which
    orders like the cosine.
    """
    if metric not in SCORES:
        raise UserError(f"metric: unknown value {metric!r}; choose from cosine, euclidean")
    norms = squared_norms(gallery)
    check_finite("query", squared_norms(query))
    check_finite("gallery", norms)
    score = SCORES[metric](gallery, norms)
    buffer = gallery.new_empty(0)

    @torch.no_grad()
    def scores(start: int, stop: int) -> Tensor:
        nonlocal buffer
        if len(buffer) < stop - start:  # one buffer for all blocks: the pages of a fresh one cost time
            buffer = gallery.new_empty(stop - start, len(gallery))
        return score(query[start:stop], buffer[: stop - start])

    return scores


def _euclidean(gallery: Tensor, norms: Tensor) -> Score:
    centred = Centred(gallery, norms)
    offsets = centred.norms / -2
    return lambda block, out: centred.products(offsets, block - centred.middle, 1, out)


def _cosine(gallery: Tensor, norms: Tensor) -> Score:
    factors = norms.clamp(min=1e-24).rsqrt()
    return lambda block, out: torch.mm(block, gallery.T, out=out).mul_(factors)


SCORES: dict[str, Callable[[Tensor, Tensor], Score]] = {"cosine": _cosine, "euclidean": _euclidean}
