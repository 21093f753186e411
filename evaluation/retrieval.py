"""Query and gallery embeddings -> CMC, mAP, mINP; exact, without ever holding queries x gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .checks import Features, Labels, as_features, as_labels, check_finite, pair_of_features, squared_norms
from .matches import Matches
from .ranks import ranks_on_cpu, ranks_on_device
from .result import RetrievalResult, result_of_ranks

Scores = Callable[[int, int], Tensor]  # start, stop of a block of queries -> its scores (B, G), free to be overwritten
AllLabels = tuple[Labels, Labels, Labels, Labels]  # q_pids, g_pids, q_camids, g_camids
BLOCK_ELEMENTS = 2**24  # scores held at once: 64 MiB of float32


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
        block: queries per block; None = as many as make 16 million scores, at least 64.
    Raises:
        ValueError: an array is empty, has NaN or a wrong length, no query has a match, or an argument is unknown;
            the message names the array and the row.
    """
    query, gallery = pair_of_features(query, gallery)
    scores = similarity(query, gallery, metric)
    size = len(query), len(gallery)
    return _evaluate(scores, size, (q_pids, g_pids, q_camids, g_camids), protocol, max_rank, block)


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
    """Judge the ranking by ready-made distances (Q, G), e.g. re-ranked ones; smaller is closer. Else as `evaluate_retrieval`."""
    distances = as_features("distances", distances)

    def scores(start: int, stop: int) -> Tensor:
        check_finite("distances", distances[start:stop], start)
        return -distances[start:stop]

    size = len(distances), distances.shape[1]
    return _evaluate(scores, size, (q_pids, g_pids, q_camids, g_camids), protocol, max_rank, block)


def _evaluate(
    scores: Scores, size: tuple[int, int], labels: AllLabels, protocol: str, max_rank: int, block: int | None
) -> RetrievalResult:
    if max_rank < 1:
        raise ValueError(f"max_rank: the CMC curve needs 1 or more ranks, got {max_rank}")
    if block is not None and block < 1:
        raise ValueError(f"block: 1 or more queries at a time, got {block}")
    matches = _matches(labels, size, protocol)
    ranks: list[np.ndarray] = []
    for start, stop in blocks(size[0], block or max(64, BLOCK_ELEMENTS // size[1])):
        values = scores(start, stop)
        find_ranks = ranks_on_cpu if values.device.type == "cpu" else ranks_on_device
        ranks += find_ranks(values, [matches.of(i) for i in range(start, stop)])
    return result_of_ranks(ranks, max_rank)


def _matches(labels: AllLabels, size: tuple[int, int], protocol: str) -> Matches:
    q_pids, g_pids, q_camids, g_camids = labels
    return Matches(
        as_labels("q_pids", q_pids, size[0], "query"),
        as_labels("g_pids", g_pids, size[1], "gallery"),
        as_labels("q_camids", q_camids, size[0], "query"),
        as_labels("g_camids", g_camids, size[1], "gallery"),
        protocol,
    )


def blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive ranges of at most `size`."""
    for start in range(0, count, size):
        yield start, min(start + size, count)


def similarity(query: Tensor, gallery: Tensor, metric: str) -> Scores:
    """Return the function that scores a block of queries; a score is higher where the distance is smaller.

    Euclidean: q.g - |g|^2 / 2, which orders like -|q - g|. Cosine: q.g / |g|, which orders like the cosine.
    """
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric: unknown value {metric!r}; choose from cosine, euclidean")
    norms = squared_norms(gallery)
    check_finite("query", squared_norms(query))
    check_finite("gallery", norms)
    offset = -norms / 2 if metric == "euclidean" else torch.zeros_like(norms)
    factor = None if metric == "euclidean" else norms.clamp(min=1e-24).rsqrt()
    buffer = gallery.new_empty(0)

    @torch.no_grad()
    def scores(start: int, stop: int) -> Tensor:
        nonlocal buffer
        if len(buffer) < stop - start:  # one buffer for all blocks: the pages of a fresh one cost time
            buffer = gallery.new_empty(stop - start, len(gallery))
        block = torch.addmm(offset, query[start:stop], gallery.T, out=buffer[: stop - start])
        return block if factor is None else block.mul_(factor)

    return scores
