"""The floor and this project's own evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from vitreid.benchmarks.contest.cases import K1, K2, LAM
from vitreid.benchmarks.contest.problems import Arrays
from vitreid.evaluation import evaluate_reranked, evaluate_retrieval
from vitreid.evaluation.retrieval import blocks


def rank(arrays: Arrays) -> float:
    """Evaluate a ranking; return the mAP."""
    return evaluate_retrieval(arrays.query, arrays.gallery, *arrays.labels).mAP


def rerank(arrays: Arrays) -> float:
    """Evaluate the k-reciprocal re-ranking; return the mAP."""
    return evaluate_reranked(arrays.query, arrays.gallery, *arrays.labels, k1=K1, k2=K2, lam=LAM).mAP


def product_of_ranking(arrays: Arrays) -> None:
    """Multiply all queries with the whole gallery."""
    multiply(arrays.query, arrays.gallery)


def product_of_reranking(arrays: Arrays) -> None:
    """Multiply all crops with all crops: the neighbours that re-ranking starts from need that much."""
    crops = torch.cat([arrays.query, arrays.gallery])
    multiply(crops, crops)


def multiply(left: Tensor, right: Tensor) -> None:
    """The blocked float32 product (L, D) x (D, R) alone, into one buffer, in blocks as large as those of the evaluation."""
    ranges = list(blocks(len(left), len(right), None))
    buffer = left.new_empty(ranges[0][1], len(right))
    for start, stop in ranges:
        torch.mm(left[start:stop], right.T, out=buffer[: stop - start])
