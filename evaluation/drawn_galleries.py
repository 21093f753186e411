"""Evaluation with images of each identity and camera as the gallery, drawn several times: SYSU-MM01's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..common.errors import UserError
from .retrieval import blocks, evaluate_retrieval, similarity
from .retrieval_data import RetrievalData, takes_arrays
from .retrieval_result import RetrievalResult


@takes_arrays
def evaluate_drawn_per_camera(
    data: RetrievalData, *, images: int = 1, repeats: int = 10, seed: int = 0, max_rank: int = 50
) -> RetrievalResult:
    """Draw galleries with `images` images of each identity and camera, rank them for each query, and average.

    This is the protocol of SYSU-MM01 (Wu et al., ICCV 2017): 1 image is its single shot, 10 images are its multi shot. The CMC curve
    counts identities, each at its best image; AP and INP count images. Identities are ordered by their best scores, equal scores in
    gallery order. A camera with fewer images of an identity gives all of them.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
        images: images drawn of each identity and camera.
        repeats: number of galleries drawn; each query is compared with the same ones.
        seed: of the draws, 0 or more; each gallery has its own generator.
        max_rank: length of the CMC curve.
    Returns:
        A result with one row per valid query and draw.
    Raises:
        ValueError: `RetrievalData` refuses the input, no query has a match, or an argument is out of range.
    """
    for name, value, least in (("images", images, 1), ("repeats", repeats, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name}: {least} or more, got {value}")
    found = []
    for repeat in range(repeats):
        drawn = draw_per_camera(data.g_pids, data.g_camids, images, np.random.default_rng((seed, repeat)))
        found.append(_evaluate(data.select(gallery=drawn), max_rank))
    queries, ap, inp, first_hit = (
        np.concatenate([getattr(result, name) for result in found])
        for name in ("query_index", "ap", "inp", "first_hit")
    )
    order = np.argsort(queries, kind="stable")
    return RetrievalResult(queries[order], ap[order], inp[order], first_hit[order], len(data.query), max_rank)


def draw_per_camera(g_pids: np.ndarray, g_camids: np.ndarray, images: int, rng: np.random.Generator) -> np.ndarray:
    """Return gallery rows, ascending: of each identity and camera as many as `images`, or all if there are fewer."""
    shuffled = rng.permutation(len(g_pids))
    order = shuffled[np.lexsort((g_camids[shuffled], g_pids[shuffled]))]  # stable: each cell keeps its shuffled order
    pids, camids = g_pids[order], g_camids[order]
    is_first = np.r_[True, (pids[1:] != pids[:-1]) | (camids[1:] != camids[:-1])]
    starts = np.flatnonzero(is_first)
    number = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))  # 0, 1, ... in each cell
    return np.sort(order[number < images])


def _evaluate(data: RetrievalData, max_rank: int) -> RetrievalResult:
    """Return the result of one gallery; its first hits are ranks among identities."""
    result = evaluate_retrieval(data, max_rank=max_rank)
    first_hit = np.fromiter(person_ranks(data), np.int64, len(data.query))[result.query_index]
    return replace(result, first_hit=first_hit)


def person_ranks(data: RetrievalData) -> Iterator[int]:
    """Yield the rank of each query's identity among the identities of its gallery, by their best images; 0 without a match."""
    by_pid = np.argsort(data.g_pids, kind="stable")
    pids, starts = np.unique(data.g_pids[by_pid], return_index=True)
    scores = similarity(data)
    for start, stop in blocks(len(data.query), len(data.gallery), None):
        for query, row in enumerate(scores(start, stop).cpu().numpy(), start):
            relevant, junk = data.matches.of(query)
            if not len(relevant):
                yield 0
                continue
            row[junk] = -np.inf
            best, own = np.maximum.reduceat(row[by_pid], starts), row[relevant].max()
            ahead = best > own
            if np.count_nonzero(best == own) > 1:  # ties: the earlier item ranks first
                first = relevant[row[relevant] == own][0]
                ahead |= np.isin(pids, data.g_pids[:first][row[:first] == own])
            yield 1 + np.count_nonzero(ahead & (pids != data.q_pids[query]))
