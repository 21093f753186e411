"""The comparisons: problem, task, and the figures that ours has to reach."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vitreid.benchmarks.contest.labels import MARKET, MSMT17, Size

K1, K2, LAM = 20, 6, 0.3  # re-ranking, as in Zhong et al., CVPR 2017


@dataclass(frozen=True)
class EvaluationProblem:
    """A test set for one or several cases.

    Args:
        base: data set to take the labels, or their counts, from; "random" = features independent of identity.
        size: counts of the synthetic labels that replace an absent data set.
        distractors: gallery images of people without a query, appended to those of the data set.
    """

    base: str
    size: Size
    distractors: int = 0


@dataclass(frozen=True)
class EvaluationBar:
    """The figures that ours has to reach at full size; None and missing names = no requirement.

    Args:
        ratio: at most this many times the floor's seconds.
        peak_mb: at most this many MB above the inputs.
        faster: contestant -> ours must be this many times faster.
    """

    ratio: float | None = None
    peak_mb: float | None = None
    faster: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationCase:
    """One table: `task` is "ranking" or "reranking"; `gallery` rows of the problem are used, all if None."""

    name: str
    problem: EvaluationProblem
    task: str = "ranking"
    gallery: int | None = None
    bar: EvaluationBar = EvaluationBar()


_MARKET = EvaluationProblem("market1501", MARKET)
_MSMT17 = EvaluationProblem("msmt17", MSMT17)
_MARKET500K = EvaluationProblem(
    "market1501", MARKET, 519_732 - 15_913
)  # the published 500,000 and Market's 3,819 junk boxes
_GROWTH = Size(1000, 10_000, 250, 6, 0)
_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)

CASES: dict[str, list[EvaluationCase]] = {
    "market": [EvaluationCase("market", _MARKET, bar=EvaluationBar(1.8, 150))],
    "msmt17": [EvaluationCase("msmt17", _MSMT17, bar=EvaluationBar(1.3, 400))],
    "market500k": [EvaluationCase("market500k", _MARKET500K, bar=EvaluationBar(1.3, 500))],
    "rerank": [
        EvaluationCase(
            "rerank", _MARKET, "reranking", bar=EvaluationBar(None, 1000, {"TransReID": 10, "fast-reid jaccard": 4})
        ),
    ],
    "rerank-msmt17": [EvaluationCase("rerank-msmt17", _MSMT17, "reranking", bar=EvaluationBar(None, 4000))],
    "growth": [
        EvaluationCase(
            f"growth-{rows // 1000}k", EvaluationProblem("random", _GROWTH, _SIZES[-1] - _SIZES[0]), gallery=rows
        )
        for rows in _SIZES
    ],
}

QUICK_CASES = ("market", "rerank", "growth")  # the cases of --quick if --cases is not given


def quick(cases: list[EvaluationCase]) -> list[EvaluationCase]:
    """Return the same cases with little data, which take seconds, and without bars."""
    return [_quick(case) for case in cases if case.gallery is None or case.gallery <= 30_000]


def _quick(case: EvaluationCase) -> EvaluationCase:
    size = case.problem.size
    small = Size(
        size.num_queries // 10, size.num_gallery // 10, size.num_ids // 10, size.num_cameras, size.num_distractors // 10
    )
    distractors = min(case.problem.distractors, 10_000) if case.gallery is None else 9 * small.num_gallery
    problem = replace(case.problem, size=small, distractors=distractors)
    name = case.name if case.gallery is None else f"growth-{case.gallery // 10_000}k"
    return replace(case, name=name, problem=problem, gallery=case.gallery and case.gallery // 10, bar=EvaluationBar())
