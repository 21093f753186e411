"""Verification (do two crops show one person?): ROC, TAR@FAR and EER over all pairs of a query and a gallery item.

A pair matches if its distance is at most the threshold. FAR (false accept rate, also called FMR) is the share of impostor
pairs that match; TAR (true accept rate) is the share of genuine pairs that match.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from sklearn import metrics

from ...common.errors import UserError
from ..retrieval_data import RetrievalData, takes_arrays
from .pairs import Pairs, look_up

REPORTED_FARS = ("1e-2", "1e-3", "1e-4")


@dataclass(frozen=True, eq=False)
class VerificationResult:
    """The distances of the genuine and of the impostor pairs; the rates follow from them. Fractions 0-1.

    Args:
        genuine: (P,) float32 ascending distances of the pairs of one person, P at least 1.
        impostor: (N,) float32 ascending distances of pairs of two people, N at least 1.
        impostor_share: share of all impostor pairs that `impostor` holds.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    impostor_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("genuine", "impostor"):
            values = getattr(self, name)
            if values.ndim != 1 or not len(values) or values.dtype != np.float32 or (values[1:] < values[:-1]).any():
                raise UserError(
                    f"{name}: expected one or more ascending float32 distances, got {values.dtype} {values.shape}; sort them"
                )

    @property
    def num_genuine(self) -> int:
        """Number of genuine pairs, P."""
        return len(self.genuine)

    @property
    def num_impostor(self) -> int:
        """Number of impostor pairs in `impostor`, N."""
        return len(self.impostor)

    def roc(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return FAR, TAR and threshold (T,) at the corners of the ROC curve, from (0, 0) at threshold -inf to (1, 1)."""
        distances, is_genuine, counts = roc_samples(self.genuine, self.impostor)
        far, tar, scores = metrics.roc_curve(is_genuine, -distances, sample_weight=counts, drop_intermediate=True)
        return far, tar, -scores

    @cached_property
    def auc(self) -> float:
        """Area under the ROC curve: the probability that a genuine pair is closer than an impostor pair."""
        return float(metrics.auc(*self.roc()[:2]))

    @cached_property
    def eer(self) -> float:
        """Equal error rate: FAR at the point with FAR = 1 - TAR on the linearly interpolated ROC curve."""
        threshold = np.float32(self.eer_threshold)
        far_before, excess_before = self._errors(threshold, "left")
        far, excess = self._errors(threshold, "right")
        return far_before - (far - far_before) * excess_before / (excess - excess_before)

    @cached_property
    def eer_threshold(self) -> float:
        """The smallest observed distance at which FAR is at least 1 - TAR."""

        def is_beyond(distance: np.float32) -> bool:
            return self._errors(distance, "right")[1] >= 0

        both = (self.genuine, self.impostor)
        found = [values[bisect_left(values, True, key=is_beyond) :] for values in both]  # type: ignore[call-overload]
        return min((float(values[0]) for values in found if len(values)), default=math.inf)

    def _errors(self, threshold: np.float32, side: Literal["left", "right"]) -> tuple[float, float]:
        """Return FAR, and FAR - (1 - TAR); pairs exactly at the threshold match for side "right", not for "left"."""
        far, tar = (np.searchsorted(values, threshold, side) / len(values) for values in (self.impostor, self.genuine))
        return float(far), float(far + tar - 1)

    def tar_at_far(self, far: float) -> float:
        """Return the largest TAR whose FAR is at most `far`; NaN where `far` is below 1 / num_impostor."""
        return share_within(self.genuine, self.threshold_at(far))

    def threshold_at(self, far: float) -> float:
        """Return the largest observed distance with a FAR of at most `far`; NaN where `far` is below 1 / num_impostor.

        It is a number below all distances if ties at the smallest distance exceed `far`.
        """
        return largest_threshold(self.impostor, self.genuine, far)

    def summary(self) -> dict[str, float]:
        """Return AUC, EER and TAR at FAR 1e-2, 1e-3, 1e-4 as plain floats; NaN where there are too few pairs."""
        return {
            "AUC": self.auc,
            "EER": self.eer,
            **{f"TAR@FAR={far}": self.tar_at_far(float(far)) for far in REPORTED_FARS},
        }


@takes_arrays
def verify(data: RetrievalData, *, max_impostors: int = 20_000_000, seed: int = 0) -> VerificationResult:
    """Compare each query with each gallery item and collect the distances; never holds queries x gallery.

    Args:
        data: the test set, or the fields of its `RetrievalData` one by one.
        max_impostors: impostor pairs to keep, 4 bytes each. If there are more, the same share of every query's impostor
            pairs is drawn at random.
        seed: of the random draw.
    Raises:
        ValueError: `RetrievalData` refuses the input, or there is no genuine or no impostor pair.
    """
    return verify_pairs(Pairs(data), max_impostors, seed)


def verify_pairs(pairs: Pairs, max_impostors: int, seed: int) -> VerificationResult:
    """Return the result of `verify` for pairs that are already counted."""
    if max_impostors < 1:
        raise UserError(f"max_impostors: 1 or more pairs, got {max_impostors}")
    quotas = share_out(pairs.num_impostor, max_impostors)
    genuine, impostor = collect(pairs, quotas, np.random.default_rng(seed))
    return VerificationResult(genuine, impostor, len(impostor) / int(pairs.num_impostor.sum()))


def collect(pairs: Pairs, quotas: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted distances of all genuine pairs (P,) and of quotas[i] impostor pairs of each query i (N,)."""
    genuine = np.empty(pairs.num_genuine.sum(), np.float32)
    impostor = np.empty(quotas.sum(), np.float32)
    genuine_stops, impostor_stops = np.cumsum(pairs.num_genuine), np.cumsum(quotas)
    for start, distances in pairs.blocks():
        rows, columns, is_genuine = pairs.own_pairs(start, len(distances))
        found = look_up(distances, rows[is_genuine], columns[is_genuine])
        stop = genuine_stops[start + len(distances) - 1]
        genuine[stop - len(found) : stop] = found
        for i, row in enumerate(distances, start):  # column numbers of a whole block take more memory than the block
            drawn = torch.from_numpy(draw_wrong(pairs.own(i), pairs.num_impostor[i], quotas[i], rng))
            impostor[impostor_stops[i] - quotas[i] : impostor_stops[i]] = row[drawn.to(row.device)].cpu().numpy()
    genuine.sort()
    impostor.sort()
    return genuine, impostor


def share_out(counts: np.ndarray, limit: int) -> np.ndarray:
    """Return how many of counts (Q,) to take from each: all of them, or the same share, so that the total is `limit`."""
    total = int(counts.sum())
    if total <= limit:
        return counts
    stops = [limit * int(stop) // total for stop in np.cumsum(counts)]
    return np.diff(np.array(stops, np.int64), prepend=0)


def draw_wrong(own: np.ndarray, num_wrong: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` distinct random columns of the `num_wrong` columns that are not in `own` (ascending)."""
    drawn = np.arange(num_wrong) if count == num_wrong else rng.choice(num_wrong, count, replace=False, shuffle=False)
    return drawn + np.searchsorted(own - np.arange(len(own)), drawn, "right")  # skip the own items in front of each


def roc_samples(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, kinds (1 = genuine) and counts of at most 3 P + 1 weighted samples with the ROC curve of all pairs.

    Between consecutive genuine distances TAR is constant, so the impostor pairs there are merged into one weighted sample at
    their largest distance.
    """
    distances, counts = np.unique(genuine, return_counts=True)
    starts, stops = (np.searchsorted(impostor, distances, side) for side in ("left", "right"))
    # range of the impostor pairs between two genuine distances
    first, last = np.append(0, stops), np.append(starts, len(impostor))
    between = last > first
    kinds = np.repeat([1, 0], [len(distances), len(distances) + between.sum()])
    weights = np.concatenate([counts, stops - starts, (last - first)[between]])
    samples = np.concatenate([distances, distances, impostor[last[between] - 1]])
    return samples[weights > 0], kinds[weights > 0], weights[weights > 0]


def largest_threshold(impostor: np.ndarray, genuine: np.ndarray, far: float) -> float:
    """Return the largest of all distances with at most the share `far` of `impostor` (N,) within it; both arrays ascend.

    NaN where far is below 1 / N; a number below all distances if ties at the smallest distance exceed `far`.

    Raises:
        ValueError: far is not above 0 and up to 1.
    """
    check_share("far", far)
    allowed = math.floor(far * len(impostor) * (1 + 1e-12))  # 0.29 * 100 is 28.999999999999996
    if allowed < 1:
        return math.nan
    if allowed >= len(impostor):
        return float(np.concatenate([impostor[-1:], genuine[-1:]]).max())
    limit = impostor[allowed]  # the first impostor distance that is not allowed
    below = [values[np.searchsorted(values, limit) - 1] for values in (impostor, genuine) if (values[:1] < limit).any()]
    return float(max(below, default=np.nextafter(limit, np.float32(-np.inf))))


def share_within(values: np.ndarray, threshold: float) -> float:
    """Return the share of ascending float32 `values` (N,) up to the threshold; NaN for NaN."""
    if math.isnan(threshold):
        return math.nan
    return int(np.searchsorted(values, round_down(threshold), "right")) / len(values)


def round_down(threshold: float) -> np.float32:
    """Return the largest float32 that is at most the threshold; the same float32 distances are within both."""
    rounded = np.float32(threshold)
    return rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf))


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless 0 < value <= 1."""
    if not 0 < value <= 1:
        raise UserError(f"{name}: a share above 0 and up to 1, got {value}")
