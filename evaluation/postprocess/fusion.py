"""Several models as one: their evidence about the same pairs is added, or their probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError, choose
from ...labels.match_probability import MatchProbability
from ..distances.pairwise import DISTANCES
from ..retrieval import result_of_scores
from ..retrieval_data import RetrievalData
from ..retrieval_result import RetrievalResult

TIE_BREAK = 1e-4  # per unit of distance: the evidence of the nearest pairs of all is one level
WAYS = {
    "sum": "add the evidence, as of independent witnesses (naive Bayes)",
    "mean": "average the probabilities (Kittler et al., TPAMI 1998)",
}


def evaluate_fused(
    data: Sequence[RetrievalData], probabilities: Sequence[MatchProbability], *, how: str = "sum", max_rank: int = 50
) -> RetrievalResult:
    """Rank the gallery by what several models say together; never holds queries x gallery.

    Args:
        data: the same images in the same order, embedded by each model.
        probabilities: of each model, fitted on other data.
        how: a key of WAYS.
        max_rank: length of the CMC curve.
    Raises:
        ValueError: labels or metrics differ, or an argument is unknown; names which.
    """
    choose("how", how, WAYS)
    _check(data, probabilities)
    first = data[0]
    return result_of_scores(_scores(data, probabilities, how), first.matches, max_rank)


def _scores(data: Sequence[RetrievalData], probabilities: Sequence[MatchProbability], how: str) -> Iterator[Tensor]:
    """Yield the float64 scores (b, G) of consecutive blocks of queries, larger for more probable pairs; among equals the nearer leads."""
    prior = probabilities[0].prior_in(len(data[0].gallery))
    rate = MatchProbability.log_odds if how == "sum" else MatchProbability.__call__
    blocks = [DISTANCES[one.metric](one.query, one.gallery) for one in data]
    for parts in zip(*blocks, strict=True):
        total = np.zeros(parts[0][1].shape)
        for one, (_, distances) in zip(probabilities, parts, strict=True):
            values = distances.cpu().numpy()
            total += rate(one, values, prior)
            total -= TIE_BREAK * values.astype(np.float64)
        yield torch.from_numpy(total)


def _check(data: Sequence[RetrievalData], probabilities: Sequence[MatchProbability]) -> None:
    if not data or len(data) != len(probabilities):
        raise UserError(
            f"data: {len(data)} models with {len(probabilities)} probabilities; give one per model, 1 or more"
        )
    for number, (one, probability) in enumerate(zip(data, probabilities, strict=True)):
        if not all(np.array_equal(ours, theirs) for ours, theirs in zip(data[0].labels, one.labels, strict=True)):
            raise UserError(
                f"data: model {number} has other images than model 0; embed the same ones in the same order"
            )
        if one.metric != probability.metric:
            raise UserError(
                f"data: model {number} compares by {one.metric}, its probability is for {probability.metric}"
            )
