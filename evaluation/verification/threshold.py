"""Which distance means "the same person"? A threshold for a wanted false match rate, and what it does elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from ...common.errors import UserError
from ..bootstrap import resampled_means
from ..input_checks import Features, Labels
from .pairs import DISTANCES, Pairs, look_up
from .roc import check_share, round_down, verify


@dataclass(frozen=True)
class Threshold:
    """Two crops are called one person if their distance is at most `distance`. Fractions 0-1.

    Args:
        distance: the largest distance that still means the same person.
        metric: how it is measured, "euclidean", |a - b|, or "cosine", 1 - cos.
        fmr: the false match rate that was asked for.
        measured_fmr: share of the impostor pairs within `distance` where it was calibrated.
        fmr_low, fmr_high: interval of the false match rate over other people as queries; NaN if there was only one.
        tar: share of the genuine pairs within `distance`.
        num_genuine, num_impostor: pairs that the rates were measured on.
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
        if self.metric not in DISTANCES:
            raise UserError(f"threshold: unknown metric {self.metric!r}; choose from {', '.join(sorted(DISTANCES))}")
        if not math.isfinite(self.distance):
            raise UserError(f"threshold: the distance must be a finite number, got {self.distance}; calibrate again")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain str, float and int, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Threshold:
        """Return the threshold that `to_dict` gave `values` of.

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


KINDS: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "str": (str,)}  # the first is made


@dataclass(frozen=True)
class ThresholdReport:
    """What a threshold does on some data. Fractions 0-1.

    Args:
        fmr: share of the impostor pairs that match, by mistake.
        tar: share of the genuine pairs that match, rightly.
        num_genuine, num_impostor: number of pairs of either kind.
    """

    fmr: float
    tar: float
    num_genuine: int
    num_impostor: int


class Counts(NamedTuple):
    """How many pairs of each query match at a threshold, (Q,) each: `false` among the impostor and `true` among the genuine."""

    false: np.ndarray
    true: np.ndarray


def calibrate(
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    fmr: float = 1e-3,
    metric: str = "euclidean",
    protocol: str = "same-camera",
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    max_impostors: int = 20_000_000,
) -> Threshold:
    """Find the largest threshold whose false match rate is at most `fmr`, and how sure that rate is.

    The threshold is found among the impostor pairs that `verify` keeps; then all pairs are counted, so that
    `measured_fmr` can exceed `fmr` by a hair where `max_impostors` left pairs out. The interval resamples the
    identities of the queries, since pairs that share a person are not independent; the gallery stays as it is.

    Args:
        query, gallery: (Q, D) and (G, D) embeddings; on a GPU the gallery's device does the work.
        q_pids, g_pids: (Q,) and (G,) identities.
        q_camids, g_camids: (Q,) and (G,) cameras.
        fmr: wanted false match rate, the share of pairs of two people that may match, above 0 and up to 1.
        metric, protocol, max_impostors: as for `verify`.
        level: confidence level of the interval, between 0 and 1.
        samples: bootstrap samples.
        seed: of the drawn pairs and of the bootstrap.
    Raises:
        ValueError: there are fewer than 1 / fmr impostor pairs, or the input is as bad as `verify` says.
    """
    check_share("fmr", fmr)
    if not 0 < level < 1:
        raise UserError(f"level: a confidence level between 0 and 1, got {level}")
    if samples < 1:
        raise UserError(f"samples: 1 or more bootstrap samples, got {samples}")
    labels = (q_pids, g_pids, q_camids, g_camids)
    result = verify(query, gallery, *labels, metric=metric, protocol=protocol, max_impostors=max_impostors, seed=seed)
    distance = result.threshold_at(fmr)
    if math.isnan(distance):
        raise UserError(
            f"fmr: {fmr} cannot be measured on {result.num_impostor} impostor pairs; ask for "
            f"{1 / result.num_impostor:.1e} or more, or calibrate on more images"
        )
    pairs = Pairs(query, gallery, *labels, metric, protocol)
    counts = count_within(pairs, distance)
    report = report_of(pairs, counts)
    low, high = fmr_interval(pairs.q_pids, counts.false, pairs.num_impostor, level, samples, seed)
    return Threshold(
        distance, metric, float(fmr), report.fmr, low, high, report.tar, report.num_genuine, report.num_impostor, level
    )


def judge(
    threshold: Threshold,
    query: Features,
    gallery: Features,
    q_pids: Labels,
    g_pids: Labels,
    q_camids: Labels,
    g_camids: Labels,
    *,
    protocol: str = "same-camera",
) -> ThresholdReport:
    """Return the rates that a threshold has on other data, over all pairs; by the threshold's own metric.

    Args:
        threshold: what `calibrate` found.
        query, gallery: (Q, D) and (G, D) embeddings by the same model.
        q_pids, g_pids: (Q,) and (G,) identities.
        q_camids, g_camids: (Q,) and (G,) cameras.
        protocol: "same-camera" leaves out pairs of one pid and one camera; "none" leaves out nothing.
    Raises:
        ValueError: as for `verify`.
    """
    pairs = Pairs(query, gallery, q_pids, g_pids, q_camids, g_camids, threshold.metric, protocol)
    return report_of(pairs, count_within(pairs, threshold.distance))


def count_within(pairs: Pairs, distance: float) -> Counts:
    """Count, for each query, the pairs whose distance, rounded to float32 as in `verify`, is at most `distance`."""
    limit = float(round_down(distance))
    parts = []
    for start, distances in pairs.blocks():
        is_within = distances.float() <= limit
        rows, columns, is_genuine = pairs.own_pairs(start, len(distances))
        own = look_up(is_within, rows, columns)
        num_own, num_true = (
            np.bincount(rows, weights, minlength=len(distances)).astype(np.int64) for weights in (own, own & is_genuine)
        )
        parts.append(Counts(is_within.sum(1).cpu().numpy() - num_own, num_true))
    return Counts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def report_of(pairs: Pairs, counts: Counts) -> ThresholdReport:
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
