"""The comparisons: problem, task, and the figures that ours has to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitreid.benchmarks.common.measurement import Bar
from vitreid.benchmarks.contest.labels import MARKET, MSMT17, Size

FLOOR = "floor"  # the contestant that only multiplies
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
class EvaluationCase:
    """One table: `task` is "ranking" or "reranking"; `gallery` rows of the problem are used, all if None; bars at full size."""

    name: str
    problem: EvaluationProblem
    task: str = "ranking"
    gallery: int | None = None
    bars: tuple[Bar, ...] = ()


def _bars(peak_mb: float, ratio: float | None = None, **faster: float) -> tuple[Bar, ...]:
    """Return bars for memory and, if given, for the seconds in units of the floor's, and of other contestants'."""
    floor = {FLOOR: ratio} if ratio else {}
    shares = {**floor, **{name: 1 / factor for name, factor in faster.items()}}
    return (Bar("peak_mb", most=peak_mb), *(Bar("seconds", most=most, than=name) for name, most in shares.items()))


_MARKET = EvaluationProblem("market1501", MARKET)
_MSMT17 = EvaluationProblem("msmt17", MSMT17)
_MARKET500K = EvaluationProblem("market1501", MARKET, 503_819)  # the published 500,000 and Market's 3,819 junk boxes
_GROWTH = Size(1000, 10_000, 250, 6, 0)
_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)

CASES: dict[str, list[EvaluationCase]] = {
    "market": [EvaluationCase("market", _MARKET, bars=_bars(150, 1.8))],
    "msmt17": [EvaluationCase("msmt17", _MSMT17, bars=_bars(400, 1.3))],
    "market500k": [EvaluationCase("market500k", _MARKET500K, bars=_bars(500, 1.3))],
    "rerank": [
        EvaluationCase("rerank", _MARKET, "reranking", bars=_bars(1000, **{"TransReID": 10, "fast-reid jaccard": 4}))
    ],
    "rerank-msmt17": [EvaluationCase("rerank-msmt17", _MSMT17, "reranking", bars=_bars(4000))],
    "growth": [
        EvaluationCase(f"growth-{n // 1000}k", EvaluationProblem("random", _GROWTH, 990_000), gallery=n) for n in _SIZES
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
    return replace(case, name=name, problem=problem, gallery=case.gallery and case.gallery // 10, bars=())
