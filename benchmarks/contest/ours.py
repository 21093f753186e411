"""The floor and this project's own evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from vitreid.benchmarks.contest.cases import K1, K2, LAM
from vitreid.evaluation import RetrievalData, evaluate_reranked, evaluate_retrieval
from vitreid.evaluation.retrieval import blocks


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
