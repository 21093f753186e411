"""Embeddings of a test set -> CMC, mAP, mINP, by one of the rankings of TEST.RERANK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...common.errors import UserError
from ...common.registry import choose
from ...evaluation import RetrievalResult, augment_database, evaluate_reranked, evaluate_retrieval, expand_queries
from .feature_file import FeatureSet


@dataclass(frozen=True)
class Rerank:
    """What follows the plain ranking.

    Args:
        method: a name in RANKINGS.
        k1, k2, lam: of k-reciprocal (Zhong et al., CVPR 2017): two numbers of neighbours, share of the original distance.
        qe_k, qe_alpha: of aqe and dba: neighbours averaged; exponent of the similarity that weighs them.
    """

    method: str = "none"
    k1: int = 20
    k2: int = 6
    lam: float = 0.3
    qe_k: int = 10
    qe_alpha: float = 3.0

    def __post_init__(self) -> None:
        """Raise UserError if the method is unknown."""
        choose("TEST.RERANK", self.method, RANKINGS)

    def check(self, num_query: int, num_gallery: int) -> None:
        """Raise ValueError, naming the config key, if more neighbours are asked for than there are images."""
        asked = {
            "k-reciprocal": ("RERANK_K1", self.k1, num_query + num_gallery - 1, "query and gallery have"),
            "aqe": ("QE_K", self.qe_k, num_gallery, "the gallery has"),
            "dba": ("QE_K", self.qe_k, num_gallery - 1, "each gallery image has"),
            "dba+aqe": ("QE_K", self.qe_k, num_gallery - 1, "each gallery image has"),
        }
        if self.method in asked:
            key, k, most, who = asked[self.method]
            if k > most:
                raise UserError(f"TEST.{key}: {k} neighbours are asked for, {who} {most}; take fewer")


def rank(features: FeatureSet, rerank: Rerank) -> RetrievalResult:
    """Return the retrieval result of the features, re-ranked as asked.

    Raises:
        ValueError: no query has a match, the features have NaN, or there are too few images for the neighbours asked for.
    """
    rerank.check(len(features.query), len(features.gallery))
    return RANKINGS[rerank.method](features, rerank)


def _plain(features: FeatureSet, rerank: Rerank) -> RetrievalResult:
    return evaluate_retrieval(*features.arrays, protocol=features.protocol)


def _k_reciprocal(features: FeatureSet, rerank: Rerank) -> RetrievalResult:
    return evaluate_reranked(*features.arrays, k1=rerank.k1, k2=rerank.k2, lam=rerank.lam, protocol=features.protocol)


def _expanded(features: FeatureSet, rerank: Rerank) -> FeatureSet:
    query = expand_queries(features.query, features.gallery, rerank.qe_k, rerank.qe_alpha)
    return replace(features, query=query)


def _augmented(features: FeatureSet, rerank: Rerank) -> FeatureSet:
    return replace(features, gallery=augment_database(features.gallery, rerank.qe_k, rerank.qe_alpha))


RANKINGS: dict[str, Callable[[FeatureSet, Rerank], RetrievalResult]] = {
    "none": _plain,
    "k-reciprocal": _k_reciprocal,
    "aqe": lambda features, rerank: _plain(_expanded(features, rerank), rerank),
    "dba": lambda features, rerank: _plain(_augmented(features, rerank), rerank),
    "dba+aqe": lambda features, rerank: _plain(_expanded(_augmented(features, rerank), rerank), rerank),
}
