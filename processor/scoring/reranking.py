"""Embeddings of a test set -> CMC, mAP, mINP, by one of the rankings of TEST.RERANK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from yacs.config import CfgNode

from ...common.errors import UserError, choose
from ...evaluation import (
    RetrievalData,
    RetrievalResult,
    augment_database,
    evaluate_drawn_galleries,
    evaluate_drawn_per_camera,
    evaluate_reranked,
    evaluate_retrieval,
    evaluate_single_shot,
    expand_queries,
)
from ...labels.setting import ALL, PER_CAMERA, PER_PERSON, PER_QUERY, Setting
from .feature_file import FeatureSet
from .postprocessing import Postprocess, build_postprocess


@dataclass(frozen=True)
class Rerank:
    """The ranking and its options.

    Args:
        method: a name in RANKINGS.
        k1, k2, lam: options of k-reciprocal (Zhong et al., CVPR 2017): neighbours considered, neighbours averaged, share of
            the original distance.
        qe_k, qe_alpha: options of aqe and dba: neighbours averaged, exponent of the similarity as their weight.
        postprocess: what is done to the embeddings first.
    """

    method: str = "none"
    k1: int = 20
    k2: int = 6
    lam: float = 0.3
    qe_k: int = 10
    qe_alpha: float = 3.0
    postprocess: Postprocess = field(default_factory=Postprocess)

    def __post_init__(self) -> None:
        """Raise UserError if the method is unknown."""
        choose("TEST.RERANK", self.method, RANKINGS)

    def check(self, num_query: int, num_gallery: int) -> None:
        """Raise ValueError, naming the config key, if the method needs more neighbours than there are images."""
        RANKINGS[self.method].check(self, num_query, num_gallery)

    def check_settings(self, settings: Sequence[Setting], dataset: str) -> None:
        """Raise UserError if the method does not go with a setting: the gallery must be the whole one."""
        if self.method == "none":
            return
        for setting in settings:
            if setting.draw != ALL:
                raise UserError(
                    f"TEST.RERANK: {self.method} does not go with {dataset}, whose evaluation draws galleries of few images; "
                    "set TEST.RERANK none"
                )


def build_rerank(cfg: CfgNode) -> Rerank:
    """Return the ranking that the config asks for."""
    test = cfg.TEST
    options = test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA, test.QE_K, test.QE_ALPHA
    return Rerank(test.RERANK, *options, build_postprocess(cfg))


@dataclass(frozen=True)
class Ranking:
    """One way to rank the gallery.

    Args:
        evaluate: ranks and judges the data.
        check: raises ValueError if the options do not fit the numbers of query and gallery images.
    """

    evaluate: Callable[[RetrievalData, Rerank], RetrievalResult]
    check: Callable[[Rerank, int, int], None] = lambda rerank, num_query, num_gallery: None


def rank(features: FeatureSet, rerank: Rerank) -> RetrievalResult:
    """Return the retrieval result of the features in their first setting, processed and ranked as `rerank` says.

    Raises:
        ValueError: no query has a match, the features have NaN, or there are too few images for the options.
    """
    return rank_setting(rerank.postprocess(features), features.evaluations[0], rerank)


def rank_setting(features: FeatureSet, setting: Setting, rerank: Rerank) -> RetrievalResult:
    """Return the retrieval result of processed features in a setting; its rows are those of `features.under(setting)`."""
    rerank.check_settings([setting], features.dataset)
    data = features.under(setting).data
    rerank.check(len(data.query), len(data.gallery))
    if setting.draw != ALL:
        return DRAWN[setting.draw](data, setting)
    result = RANKINGS[rerank.method].evaluate(data, rerank)
    return result.interpolated() if setting.interpolates else result


def rank_further(features: FeatureSet, rerank: Rerank) -> dict[str, RetrievalResult]:
    """Return the results of processed features in all settings but the first, by name.

    A setting without a query that has a match is left out.
    """
    return {
        setting.name: rank_setting(features, setting, rerank)
        for setting in features.evaluations[1:]
        if features.under(setting).data.matches.is_valid().any()
    }


DRAWN: dict[str, Callable[[RetrievalData, Setting], RetrievalResult]] = {  # a key of DRAWS -> its evaluation
    PER_PERSON: lambda data, setting: evaluate_drawn_galleries(data, repeats=setting.repeats),
    PER_QUERY: lambda data, setting: evaluate_single_shot(data, repeats=setting.repeats),
    PER_CAMERA: lambda data, setting: evaluate_drawn_per_camera(data, repeats=setting.repeats, images=setting.images),
}


def _k_reciprocal(data: RetrievalData, rerank: Rerank) -> RetrievalResult:
    return evaluate_reranked(data, k1=rerank.k1, k2=rerank.k2, lam=rerank.lam)


def _expanded(data: RetrievalData, rerank: Rerank) -> RetrievalResult:
    query = expand_queries(data.query, data.gallery, rerank.qe_k, rerank.qe_alpha)
    return evaluate_retrieval(replace(data, query=query))


def _augmented(data: RetrievalData, rerank: Rerank) -> RetrievalData:
    return replace(data, gallery=augment_database(data.gallery, rerank.qe_k, rerank.qe_alpha))


def _check_crops(rerank: Rerank, num_query: int, num_gallery: int) -> None:
    _check_neighbours("RERANK_K1", rerank.k1, num_query + num_gallery - 1, "query and gallery have")


def _check_gallery(rerank: Rerank, num_query: int, num_gallery: int) -> None:
    _check_neighbours("QE_K", rerank.qe_k, num_gallery, "the gallery has")


def _check_other_items(rerank: Rerank, num_query: int, num_gallery: int) -> None:
    _check_neighbours("QE_K", rerank.qe_k, num_gallery - 1, "each gallery image has")


def _check_neighbours(key: str, k: int, most: int, who: str) -> None:
    if k > most:
        raise UserError(f"TEST.{key}: {k} neighbours are asked for, {who} {most}; take fewer")


RANKINGS: dict[str, Ranking] = {
    "none": Ranking(lambda data, rerank: evaluate_retrieval(data)),
    "k-reciprocal": Ranking(_k_reciprocal, _check_crops),
    "aqe": Ranking(_expanded, _check_gallery),
    "dba": Ranking(lambda data, rerank: evaluate_retrieval(_augmented(data, rerank)), _check_other_items),
    "dba+aqe": Ranking(lambda data, rerank: _expanded(_augmented(data, rerank), rerank), _check_other_items),
}
