"""Do two sets of embeddings of the same crops rank them alike?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..common.errors import UserError


class Tolerance(NamedTuple):
    """What may differ. Lengths are in units of the median distance between two crops.

    Args:
        tie: two crops whose distances to a third differ by no more than this count as equally near.
        difference: largest distance between the two embeddings of a crop.
        places, first: smallest shares of all places, and of the first places, of the ranked lists that agree.
    """

    tie: float
    difference: float
    places: float
    first: float

    def __str__(self) -> str:
        return (
            f"neighbours as near to within {self.tie:g} of the median distance may change places; {self.places:.2%} of the "
            f"places and {self.first:.2%} of the first places have to agree"
        )


FLOAT32 = Tolerance(tie=1e-4, difference=1e-3, places=1.0, first=1.0)
FLOAT16 = Tolerance(tie=1e-2, difference=1e-1, places=0.95, first=1.0)


class Agreement(NamedTuple):
    """How far the embeddings of a shipped model are from those of the checkpoint.

    Args:
        largest: difference of one value of an embedding.
        difference: distance between the two embeddings of a crop, over the median distance between two crops; the largest.
        places, first: shares of all places, and of the first places, of the ranked lists that agree.
        topk: places looked at in each list.
    """

    largest: float
    difference: float
    places: float
    first: float
    topk: int

    def problem(self, tolerance: Tolerance) -> str:
        """Return what is outside the tolerance, empty = nothing."""
        if not np.isfinite(self.largest):
            return "its embeddings are not finite"
        if self.places < tolerance.places:
            return f"{self.places:.2%} of the places in the ranked lists agree, {tolerance.places:.2%} are needed"
        if self.first < tolerance.first:
            return f"{self.first:.2%} of the first places of the ranked lists agree, {tolerance.first:.2%} are needed"
        if self.difference > tolerance.difference:
            return (
                f"an embedding lies {self.difference:.2g} of the median distance between two crops away, "
                f"{tolerance.difference:g} are allowed"
            )
        return ""


def compare(expected: np.ndarray, found: np.ndarray, tie: float, topk: int = 20) -> Agreement:
    """Rank every crop against all others by both sets and compare the lists' first places.

    A place agrees if `found` puts there a crop that `expected` holds for as near as its own crop of that place, to within
    `tie`: neighbours whose order is decided by rounding may change places.

    Args:
        expected, found: (N, D) embeddings, N of 3 or more.
        tie: see `Tolerance`.
        topk: places compared, at most N - 1.
    Raises:
        ValueError: fewer than 3 crops, or all have one embedding, so that there is nothing to rank.
    """
    if len(expected) < 3:
        raise UserError(f"--crops: 3 or more images are needed to compare rankings, got {len(expected)}")
    ours = distances(expected)
    unit = float(np.median(ours[~np.eye(len(ours), dtype=bool)]))
    if unit == 0:
        raise UserError("--crops: the model gives most of these images one embedding; give crops of several people")
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
    wide = wide - wide.mean(0)  # close embeddings lose no digits
    squares = (wide**2).sum(1)
    squared = squares[:, None] + squares - 2 * wide @ wide.T
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(squared.clip(min=0))


def worst(found: list[Agreement]) -> Agreement:
    """Return the worst of each figure."""
    return Agreement(
        largest=float(np.max([item.largest for item in found])),  # NaN wins, as it should
        difference=float(np.max([item.difference for item in found])),
        places=min(item.places for item in found),
        first=min(item.first for item in found),
        topk=found[0].topk,
    )
