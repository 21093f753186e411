"""Which comparisons are made: the problem, the task and the figures that ours has to reach."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vitreid.benchmarks.contest.labels import MARKET, MSMT17, Size

K1, K2, LAM = 20, 6, 0.3  # re-ranking, as in Zhong et al., CVPR 2017


@dataclass(frozen=True)
class Problem:
    """Arrays that several cases can share.

    Args:
        base: data set whose labels, or whose statistics, are used; "random" = features that know nothing of identities.
        size: counts of the synthetic labels, used where the data set itself is absent.
        distractors: gallery images of nobody, appended to those of the data set.
    """

    base: str
    size: Size
    distractors: int = 0


@dataclass(frozen=True)
class Bar:
    """What ours has to reach at full size; None and missing names are not asked for.

    Args:
        ratio: at most this many times the floor's seconds.
        peak_mb: at most this many MB above the inputs.
        faster: contestant -> ours must be this many times faster.
    """

    ratio: float | None = None
    peak_mb: float | None = None
    faster: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One table: `task` is "ranking" or "reranking"; `gallery` rows of the problem are used, all if None."""

    name: str
    problem: Problem
    task: str = "ranking"
    gallery: int | None = None
    bar: Bar = Bar()


_MARKET = Problem("market1501", MARKET)
_MSMT17 = Problem("msmt17", MSMT17)
_MARKET500K = Problem("market1501", MARKET, 519_732 - 15_913)  # the published 500,000 and Market's 3,819 junk boxes
_GROWTH = Size(1000, 10_000, 250, 6, 0)
_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)

CASES: dict[str, list[Case]] = {
    "market": [Case("market", _MARKET, bar=Bar(1.8, 150))],
    "msmt17": [Case("msmt17", _MSMT17, bar=Bar(1.3, 400))],
    "market500k": [Case("market500k", _MARKET500K, bar=Bar(1.3, 500))],
    "rerank": [
        Case("rerank", _MARKET, "reranking", bar=Bar(None, 1000, {"TransReID": 10, "fast-reid jaccard": 4})),
    ],
    "rerank-msmt17": [Case("rerank-msmt17", _MSMT17, "reranking", bar=Bar(None, 4000))],
    "growth": [
        Case(f"growth-{rows // 1000}k", Problem("random", _GROWTH, _SIZES[-1] - _SIZES[0]), gallery=rows)
        for rows in _SIZES
    ],
}

QUICK_CASES = ("market", "rerank", "growth")  # what --quick runs unless told


def quick(cases: list[Case]) -> list[Case]:
    """Return the same cases with little data, seconds in all, and without bars."""
    return [_quick(case) for case in cases if case.gallery is None or case.gallery <= 30_000]


def _quick(case: Case) -> Case:
    size = case.problem.size
    small = Size(
        size.num_queries // 10, size.num_gallery // 10, size.num_ids // 10, size.num_cameras, size.num_distractors // 10
    )
    distractors = min(case.problem.distractors, 10_000) if case.gallery is None else 9 * small.num_gallery
    problem = replace(case.problem, size=small, distractors=distractors)
    name = case.name if case.gallery is None else f"growth-{case.gallery // 10_000}k"
    return replace(case, name=name, problem=problem, gallery=case.gallery and case.gallery // 10, bar=Bar())
