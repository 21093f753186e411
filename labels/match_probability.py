"""A distance as the probability that two images show one person, as plain numbers that a checkpoint or gallery can keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..common.errors import UserError

EVEN = 0.5  # prior of a comparison of two images about which nothing is known


@dataclass(frozen=True)
class MatchProbability:
    """The evidence in a distance, and the probability that follows from it.

    By Bayes' rule, log-odds of one person = evidence + log-odds before the comparison (prior). Between the distances below
    the evidence is interpolated; outside it stays that of the first or last.

    Args:
        distances: (K,) ascending.
        evidence: (K,) natural logarithm of P(distance | one person) / P(distance | two people), not ascending.
        metric: of the distances.
        matches: mean number of images of a query's person in the gallery of the calibration data.
    Raises:
        UserError: numbers that fit no such curve.
    """

    distances: tuple[float, ...]
    evidence: tuple[float, ...]
    metric: str
    matches: float

    def __post_init__(self) -> None:
        for name in ("distances", "evidence"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))  # JSON has lists only
        ups, downs = (np.diff(values) for values in (self.distances, self.evidence))
        values = (*self.distances, *self.evidence, self.matches)
        if not ups.size == downs.size or not self.distances or not np.isfinite(values).all():
            raise UserError("probability: expected finite distances and as much evidence; calibrate again")
        if (ups <= 0).any() or (downs > 0).any() or self.matches <= 0:
            raise UserError(
                "probability: expected ascending distances and evidence that does not grow; calibrate again"
            )

    def log_odds(self, distances: Any, prior: float) -> np.ndarray:
        """Return the log-odds (…) of one person for distances of any shape.

        Args:
            prior: share of pairs of one person before the comparison, between 0 and 1.
        """
        found = np.interp(np.asarray(distances, np.float64), self.distances, self.evidence)
        return found + math.log(prior / (1 - prior))

    def __call__(self, distances: Any, prior: float = EVEN) -> np.ndarray:
        """Return the probabilities (…) of one person, 0 to 1, for distances of any shape; `prior` as for `log_odds`."""
        return 1 / (1 + np.exp(-self.log_odds(distances, prior)))

    def prior_in(self, num_images: int) -> float:
        """Return the share of a gallery's images that show the query's person, if as many do as in the calibration data."""
        return min(EVEN, self.matches / max(num_images, 1))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MatchProbability:
        """Return what `to_dict` described; raise UserError if it is none."""
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:  # a missing or unknown field, text in place of a number
            raise UserError(f"probability: {error}; calibrate again") from error
