"""The contestants of each task, and what they need; this project's evaluation, and the floor that only multiplies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitreid.benchmarks.common.measurement import OURS
from vitreid.benchmarks.contest import peers
from vitreid.benchmarks.contest.cases import FLOOR, K1, K2, LAM
from vitreid.evaluation import RetrievalData, evaluate_reranked, evaluate_retrieval
from vitreid.evaluation.retrieval import blocks


@dataclass(frozen=True)
class Contestant:
    """One evaluation to be timed.

    Args:
        run: takes the data and a checkout, evaluates, and returns the mAP; None if the task has none.
        peer: name in PEERS of the project it needs a checkout of; empty = none.
        cython: whether it needs the peer's compiled part.
        bytes_per_pair: peak memory above the inputs, in bytes per pair of a query and a gallery image (of two crops in
            re-ranking), from reading its code; 0 = bounded.
        max_pairs: skip larger problems, which would take hours.
    """

    run: Callable[[RetrievalData, Any], float | None]
    peer: str = ""
    cython: bool = False
    bytes_per_pair: int = 0
    max_pairs: int | None = None


PEERS = {  # option: a file by which the project's checkout is recognised
    "transreid": "utils/reranking.py",
    "fastreid": "fastreid/evaluation/rank.py",
    "torchreid": "torchreid/metrics/rank.py",
    "oml": "oml/functional/metrics.py",
}
CYTHON = {
    "fastreid": "fastreid/evaluation/rank_cylib/rank_cy.pyx",
    "torchreid": "torchreid/metrics/rank_cylib/rank_cy.pyx",
}


def rank(data: RetrievalData) -> float:
    """Evaluate a ranking, the checks of its input included; return the mAP."""
    return evaluate_retrieval(data.query, data.gallery, *data.labels).mAP


def rerank(data: RetrievalData) -> float:
    """Evaluate the k-reciprocal re-ranking, checks included; return the mAP."""
    return evaluate_reranked(data.query, data.gallery, *data.labels, k1=K1, k2=K2, lam=LAM).mAP


def product_of_ranking(data: RetrievalData) -> None:
    """Multiply all queries with the whole gallery."""
    multiply(data.query, data.gallery)


def product_of_reranking(data: RetrievalData) -> None:
    """Multiply all crops with all crops: the neighbour search of re-ranking needs these products."""
    crops = torch.cat([data.query, data.gallery])
    multiply(crops, crops)


def multiply(left: Tensor, right: Tensor) -> None:
    """Compute the float32 product (L, D) x (D, R) in blocks as large as those of the evaluation, into one buffer."""
    ranges = list(blocks(len(left), len(right), None))
    buffer = left.new_empty(ranges[0][1], len(right))
    for start, stop in ranges:
        torch.mm(left[start:stop], right.T, out=buffer[: stop - start])


def _alone(run: Callable[[RetrievalData], float | None]) -> Callable[[RetrievalData, object], float | None]:
    return lambda data, checkout: run(data)


_PYTHON = 100_000_000  # pairs: Market-1501 has 54 million and takes a minute

CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "ranking": {
        FLOOR: Contestant(_alone(product_of_ranking)),
        OURS: Contestant(_alone(rank)),
        "TransReID": Contestant(peers.transreid_rank, "transreid", bytes_per_pair=21),
        "fast-reid Cython": Contestant(partial(peers.fastreid_rank, use_cython=True), "fastreid", True, 12),
        "fast-reid": Contestant(partial(peers.fastreid_rank, use_cython=False), "fastreid", False, 12, _PYTHON),
        "torchreid Cython": Contestant(partial(peers.torchreid_rank, use_cython=True), "torchreid", True, 20),
        "torchreid": Contestant(partial(peers.torchreid_rank, use_cython=False), "torchreid", False, 21, _PYTHON),
        "OML": Contestant(peers.oml_rank, "oml", bytes_per_pair=20),
    },
    "reranking": {
        FLOOR: Contestant(_alone(product_of_reranking)),
        OURS: Contestant(_alone(rerank)),
        "TransReID": Contestant(peers.transreid_rerank, "transreid", bytes_per_pair=22),
        "fast-reid": Contestant(peers.fastreid_rerank, "fastreid", bytes_per_pair=24),
        "fast-reid jaccard": Contestant(peers.fastreid_jaccard, "fastreid", bytes_per_pair=9),
        "torchreid": Contestant(peers.torchreid_rerank, "torchreid", bytes_per_pair=24),
    },
}
