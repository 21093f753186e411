"""Agreement of two sets of embeddings of the same crops: values, distances and rankings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..common.errors import UserError


class Tolerance(NamedTuple):
    """The largest differences that are accepted. Lengths are in units of the median distance between two crops.

    Args:
        tie: two distances from one crop that differ by no more than this are a tie.
        difference: largest distance between the two embeddings of a crop.
        places, first: smallest shares of all ranks, and of the first ranks, that agree.
    """

    tie: float
    difference: float
    places: float
    first: float

    def __str__(self) -> str:
        return (
            f"neighbours whose distances differ by less than {self.tie:g} of the median distance may swap; {self.places:.2%} of "
            f"the ranks and {self.first:.2%} of the first ranks have to agree"
        )


FLOAT32 = Tolerance(tie=1e-4, difference=1e-3, places=1.0, first=1.0)
FLOAT16 = Tolerance(tie=1e-2, difference=1e-1, places=0.95, first=1.0)
INT8 = Tolerance(tie=5e-2, difference=5e-1, places=0.9, first=0.95)


class Agreement(NamedTuple):
    """The differences between the embeddings of an exported model and of its checkpoint.

    Args:
        largest: largest difference of one value of an embedding.
        difference: largest distance between the two embeddings of a crop, in units of the median distance between two crops.
        places, first: shares of all ranks, and of the first ranks, that agree.
        topk: ranks compared in each list.
    """

    largest: float
    difference: float
    places: float
    first: float
    topk: int

    def problem(self, tolerance: Tolerance) -> str:
        """Return a sentence about the first figure outside the tolerance, empty if there is none."""
        if not np.isfinite(self.largest):
            return "its embeddings are not finite"
        if self.places < tolerance.places:
            return f"{self.places:.2%} of the ranks agree, {tolerance.places:.2%} are needed"
        if self.first < tolerance.first:
            return f"{self.first:.2%} of the first ranks agree, {tolerance.first:.2%} are needed"
        if self.difference > tolerance.difference:
            return (
                f"an embedding is off by {self.difference:.2g} of the median distance between two crops, "
                f"{tolerance.difference:g} is allowed"
            )
        return ""


def compare(expected: np.ndarray, found: np.ndarray, tie: float, topk: int = 20) -> Agreement:
    """Rank every crop against all others by both sets and compare the first ranks of the lists.

    A rank agrees if the crops that the two sets put there have the same `expected` distance, within `tie`: neighbours
    ordered by rounding alone may swap.

    Args:
        expected, found: (N, D) embeddings, N of 3 or more.
        tie: see `Tolerance`.
        topk: ranks compared, at most N - 1.
    Raises:
        ValueError: fewer than 3 crops, or most have the same embedding, so there is nothing to rank.
    """
    if len(expected) < 3:
        raise UserError(f"--crops: 3 or more images are needed to compare rankings, got {len(expected)}")
    ours = distances(expected)
    unit = float(np.median(ours[~np.eye(len(ours), dtype=bool)]))
    if unit == 0:
        raise UserError("--crops: most of these images have the same embedding; give crops of several people")
    topk = min(topk, len(ours) - 1)
    if not np.isfinite(found).all():
        return Agreement(np.nan, np.nan, 0.0, 0.0, topk)
    order = np.argsort(ours, axis=1, kind="stable")[:, :topk]
    other = np.argsort(distances(found), axis=1, kind="stable")[:, :topk]
    wanted, got = (np.take_along_axis(ours, places, axis=1) for places in (order, other))
    agrees = np.abs(wanted - got) <= tie * unit  # (N, topk)
    gap = np.linalg.norm(expected.astype(np.float64) - found, axis=1)
    return Agreement(
        largest=float(np.abs(expected - found).max()),
        difference=float(gap.max() / unit),
        places=float(agrees.mean()),
        first=float(agrees[:, 0].mean()),
        topk=topk,
    )


def distances(embeddings: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (N, N) float64 between embeddings (N, D); infinite from a crop to itself."""
    wide = embeddings.astype(np.float64)
    wide = wide - wide.mean(0)  # keeps the digits of close embeddings
    squares = (wide**2).sum(1)
    squared = squares[:, None] + squares - 2 * wide @ wide.T
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(squared.clip(min=0))


def worst(found: list[Agreement]) -> Agreement:
    """Return the worst of each figure."""
    return Agreement(
        largest=float(np.max([item.largest for item in found])),  # NaN is the worst
        difference=float(np.max([item.difference for item in found])),
        places=min(item.places for item in found),
        first=min(item.first for item in found),
        topk=found[0].topk,
    )
