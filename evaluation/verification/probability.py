"""Distances of pairs -> the probability of one person: isotonic regression, so that nearer is never less probable."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression

from ...common.errors import UserError
from ...labels.match_probability import MatchProbability
from .roc import VerificationResult

BINS = 200  # of equally many pairs; the fit joins neighbours that are out of order
NEAR = 20  # impostor pairs per genuine pair, the nearest ones, that place the bins


def match_probability(pairs: VerificationResult, metric: str, num_queries: int) -> MatchProbability:
    """Fit the evidence in a distance to the genuine and impostor pairs of a test set.

    Isotonic regression of the share of genuine pairs (Zadrozny & Elkan, KDD 2002, with scikit-learn). A level has the
    evidence ln((genuine + 1/2) / (impostor + 1/2)) less that of all pairs, so that few pairs never mean certainty.

    Args:
        pairs: distances, as `verify` returns them.
        metric: of the distances.
        num_queries: queries with a match, to know how many images of a person the gallery has.
    Raises:
        UserError: all distances are equal.
    """
    edges = _edges(pairs)
    genuine = np.histogram(pairs.genuine, edges)[0].astype(np.float64)
    impostor = np.histogram(pairs.impostor, edges)[0] / pairs.impostor_share
    used = genuine + impostor > 0
    genuine, impostor, middle = genuine[used], impostor[used], ((edges[1:] + edges[:-1]) / 2)[used]
    total = genuine + impostor
    share = IsotonicRegression(increasing=False).fit_transform(middle, genuine / total, sample_weight=total)
    level = np.cumsum(np.append(True, share[1:] != share[:-1])) - 1  # (bins,) number of the bin's level
    sums = [np.bincount(level, values) for values in (genuine, impostor, middle * total, total)]
    evidence = np.log((sums[0] + 0.5) / (sums[1] + 0.5)) - np.log(sums[0].sum() / sums[1].sum())
    evidence = np.minimum.accumulate(evidence)
    return MatchProbability(
        tuple((sums[2] / sums[3]).tolist()), tuple(evidence.tolist()), metric, len(pairs.genuine) / num_queries
    )


def _edges(pairs: VerificationResult) -> np.ndarray:
    """Return the edges of the bins, ascending: quantiles of the genuine and the nearest impostor pairs, and the ends of all."""
    near = np.concatenate([pairs.genuine, pairs.impostor[: NEAR * len(pairs.genuine)]]).astype(np.float64)
    ends = [near.min(), max(pairs.genuine[-1], pairs.impostor[-1])]
    edges = np.unique(np.concatenate([np.quantile(near, np.linspace(0, 1, BINS + 1)), np.array(ends, np.float64)]))
    if len(edges) < 2:
        raise UserError("probability: all pairs have the same distance, which says nothing about people")
    return edges
