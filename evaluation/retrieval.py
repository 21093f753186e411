"""Query and gallery embeddings -> CMC, mAP, mINP; exact, without ever holding queries x gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError
from ..labels.protocol import Protocol
from .distances.blockwise import block_rows
from .distances.centred_distances import Centred
from .input_checks import Features, Labels, as_features, check_finite
from .matches import Extra, Matches, as_extra, as_files, as_label_arrays
from .rank_counting import ranks_on_cpu, ranks_on_device
from .reranking.rerank import check_options, reranked_blocks
from .retrieval_data import RetrievalData, takes_arrays
from .retrieval_result import RetrievalResult, result_of_ranks

# start, stop of a block of queries -> its scores (B, G), which may be overwritten
Scores = Callable[[int, int], Tensor]
Score = Callable[[Tensor, Tensor], Tensor]  # block of queries (B, D), output buffer -> its scores (B, G)


@takes_arrays
def evaluate_retrieval(data: RetrievalData, *, max_rank: int = 50, block: int | None = None) -> RetrievalResult:
    """Rank the gallery for each query by distance and compute CMC, mAP and mINP.

    Equal distances rank in gallery order. Average precision is the mean of the precision at each hit, as in TransReID.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
        max_rank: length of the CMC curve.
        block: queries per block; None = as many as use the processor well and keep the scores below 256 MiB.
    Raises:
        ValueError: `RetrievalData` refuses the input, no query has a match, or an argument is out of range.
    """
    scores = similarity(data)
    ranges = blocks(len(data.query), len(data.gallery), block)
    return result_of_scores((scores(start, stop) for start, stop in ranges), data.matches, max_rank)


def evaluate_distances(
    distances: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    protocol: str | Protocol = "same-camera",
    q_files: Labels | None = None,
    g_files: Labels | None = None,
    extra: Extra | None = None,
    max_rank: int = 50,
    block: int | None = None,
) -> RetrievalResult:
    """Evaluate the ranking by given distances (Q, G), smaller is closer; otherwise as `evaluate_retrieval`."""
    distances = as_features("distances", distances)
    size = len(distances), distances.shape[1]
    labels = as_label_arrays(q_pids, g_pids, q_camids, g_camids, *size)
    matches = Matches(*labels, protocol, as_files(q_files, g_files, *size), as_extra(extra or {}, *size))

    def scores() -> Iterator[Tensor]:
        for start, stop in blocks(*size, block):
            check_finite("distances", distances[start:stop], start)
            yield -distances[start:stop]

    return result_of_scores(scores(), matches, max_rank)


@takes_arrays
def evaluate_reranked(
    data: RetrievalData, *, k1: int = 20, k2: int = 6, lam: float = 0.3, max_rank: int = 50
) -> RetrievalResult:
    """Evaluate the ranking by the distances of `k_reciprocal` with its options k1, k2 and lam, block by block.

    Raises:
        ValueError: as for `evaluate_retrieval`; the metric is not euclidean; k1, k2 or lam is out of range.
    """
    if data.metric != "euclidean":
        raise UserError(
            f"metric: re-ranking takes 'euclidean' only, got {data.metric!r}; scale the rows to unit length"
        )
    check_options(k1, k2, lam, len(data.query) + len(data.gallery))
    distances = reranked_blocks(data.query, data.gallery, k1, k2, lam)
    return result_of_scores((block.neg_() for block in distances), data.matches, max_rank)


def result_of_scores(scores: Iterator[Tensor], matches: Matches, max_rank: int) -> RetrievalResult:
    """Return the result of consecutive blocks of scores (b, G), higher = closer, which are overwritten."""
    if max_rank < 1:
        raise UserError(f"max_rank: the CMC curve needs 1 or more ranks, got {max_rank}")
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


def similarity(data: RetrievalData) -> Scores:
    """Return the function that scores a block of queries; a smaller distance has a higher score.

    Euclidean: q.g - |g|^2 / 2 orders like -|q - g|; both are centred on the gallery first. Cosine: q.g / |g| orders like the
    cosine.
    """
    query, gallery = data.query, data.gallery
    score = SCORES[data.metric](gallery, data.gallery_norms)
    buffer = gallery.new_empty(0)

    @torch.no_grad()
    def scores(start: int, stop: int) -> Tensor:
        nonlocal buffer
        if len(buffer) < stop - start:  # one buffer for all blocks: fresh memory pages cost time
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
