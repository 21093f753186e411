"""Distance threshold for "the same person": calibrated for a false match rate, judged on other data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ...common.errors import UserError
from ..confidence_intervals import check_draws, resampled_means
from ..retrieval_data import METRICS, RetrievalData, takes_arrays
from .pairs import Pairs, look_up
from .roc import VerificationResult, check_share, round_down, verify_pairs


@dataclass(frozen=True)
class Threshold:
    """Two crops show one person if their distance is at most `distance`. Fractions 0-1.

    Args:
        distance: the largest distance that means the same person.
        metric: "euclidean", |a - b|, or "cosine", 1 - cos.
        fmr: the false match rate asked for.
        measured_fmr: share of the impostor pairs within `distance` on the calibration data.
        fmr_low, fmr_high: confidence interval of the false match rate over other people as queries; NaN for one person.
        tar: share of the genuine pairs within `distance` on the calibration data.
        num_genuine, num_impostor: numbers of pairs behind the rates.
        level: confidence level of the interval.

    Raises:
        ValueError: the metric is unknown or the distance not finite.
    """

    distance: float
    metric: str
    fmr: float
    measured_fmr: float
    fmr_low: float
    fmr_high: float
    tar: float
    num_genuine: int
    num_impostor: int
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"threshold: unknown metric {self.metric!r}; choose from {', '.join(METRICS)}")
        if not math.isfinite(self.distance):
            raise UserError(f"threshold: the distance must be a finite number, got {self.distance}; calibrate again")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as str, float and int, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Threshold:
        """Return the threshold with the fields `values`, as `to_dict` returns them.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        types = {field.name: KINDS[str(field.type)] for field in fields(cls)}
        if set(values) != set(types):
            missing, unknown = sorted(set(types) - set(values)), sorted(set(values) - set(types))
            raise UserError(f"threshold: missing fields {missing}, unknown fields {unknown}; calibrate again")
        for name, kinds in types.items():
            if not isinstance(values[name], kinds) or isinstance(values[name], bool):
                raise UserError(
                    f"threshold: {name} must be a {kinds[0].__name__}, got {values[name]!r}; calibrate again"
                )
        return cls(**{name: kinds[0](values[name]) for name, kinds in types.items()})


# accepted types of a field; the value becomes the first
KINDS: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "str": (str,)}


@dataclass(frozen=True)
class ThresholdReport:
    """The rates of a threshold on some data. Fractions 0-1.

    Args:
        fmr: share of the impostor pairs that match.
        tar: share of the genuine pairs that match.
        num_genuine, num_impostor: numbers of genuine and of impostor pairs.
    """

    fmr: float
    tar: float
    num_genuine: int
    num_impostor: int


class MatchCounts(NamedTuple):
    """Pairs of each query within a threshold, (Q,) each: false matches (impostor pairs) and true matches (genuine pairs)."""

    false: np.ndarray
    true: np.ndarray


@takes_arrays
def calibrate(
    data: RetrievalData,
    *,
    fmr: float = 1e-3,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    max_impostors: int = 20_000_000,
    verified: VerificationResult | None = None,
) -> Threshold:
    """Find the largest threshold with a false match rate of at most `fmr`, and the confidence interval of that rate.

    The threshold is found among the impostor pairs that `verify` keeps; then all pairs are counted, so `measured_fmr` can
    slightly exceed `fmr` where `max_impostors` left pairs out. The interval resamples the identities of the queries, because
    pairs that share a person are not independent; the gallery is not resampled.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
        fmr: wanted false match rate, the share of pairs of two people that may match, above 0 and up to 1.
        level: confidence level of the interval, between 0 and 1.
        samples: number of bootstrap samples.
        seed: of the drawn pairs and of the bootstrap.
        max_impostors: as for `verify`.
        verified: what `verify` returned for the same data and options, to spare a pass; None = computed here.
    Raises:
        ValueError: there are fewer than 1 / fmr impostor pairs, an option is out of range, or `verify` refuses the input.
    """
    check_share("fmr", fmr)
    check_draws(level, samples, seed)
    pairs = Pairs(data)
    result = verified or verify_pairs(pairs, max_impostors, seed)
    distance = result.threshold_at(fmr)
    if math.isnan(distance):
        raise UserError(
            f"fmr: {fmr} cannot be measured on {result.num_impostor} impostor pairs; ask for "
            f"{1 / result.num_impostor:.1e} or more, or calibrate on more images"
        )
    counts = count_within(pairs, distance)
    report = report_of(pairs, counts)
    low, high = fmr_interval(data.q_pids, counts.false, pairs.num_impostor, level, samples, seed)
    return Threshold(
        distance=distance,
        metric=data.metric,
        fmr=float(fmr),
        measured_fmr=report.fmr,
        fmr_low=low,
        fmr_high=high,
        tar=report.tar,
        num_genuine=report.num_genuine,
        num_impostor=report.num_impostor,
        level=level,
    )


@takes_arrays
def judge(threshold: Threshold, data: RetrievalData) -> ThresholdReport:
    """Return the rates of a threshold over all pairs of other data, measured in the threshold's metric.

    Args:
        threshold: as `calibrate` returns it.
        data: embeddings of the same model, or the fields of their `RetrievalData` one by one; its metric does not count.
    Raises:
        ValueError: as for `verify`.
    """
    pairs = Pairs(data if data.metric == threshold.metric else replace(data, metric=threshold.metric))
    return report_of(pairs, count_within(pairs, threshold.distance))


def count_within(pairs: Pairs, distance: float) -> MatchCounts:
    """Count the pairs of each query within `distance`; distances are rounded to float32, as in `verify`."""
    limit = float(round_down(distance))
    parts = []
    for start, distances in pairs.blocks():
        is_within = distances.float() <= limit
        rows, columns, is_genuine = pairs.own_pairs(start, len(distances))
        own = look_up(is_within, rows, columns)
        num_own, num_true = (
            np.bincount(rows, weights, minlength=len(distances)).astype(np.int64) for weights in (own, own & is_genuine)
        )
        parts.append(MatchCounts(is_within.sum(1).cpu().numpy() - num_own, num_true))
    return MatchCounts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def report_of(pairs: Pairs, counts: MatchCounts) -> ThresholdReport:
    """Return the rates over all pairs."""
    num_genuine, num_impostor = int(pairs.num_genuine.sum()), int(pairs.num_impostor.sum())
    return ThresholdReport(
        int(counts.false.sum()) / num_impostor, int(counts.true.sum()) / num_genuine, num_genuine, num_impostor
    )


def fmr_interval(
    pids: np.ndarray, false: np.ndarray, totals: np.ndarray, level: float, samples: int, seed: int
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of sum(false) / sum(totals), (Q,) each, over resampled identities.

    NaN, twice, if fewer than two identities have a pair.
    """
    groups = np.unique(pids, return_inverse=True)[1]
    false, totals = np.bincount(groups, false), np.bincount(groups, totals)
    false, totals = false[totals > 0], totals[totals > 0]
    if len(totals) < 2:
        return math.nan, math.nan
    rates = resampled_means(false[:, None], totals, samples, np.random.default_rng(seed))
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
