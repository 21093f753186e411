"""How much the answer to a question is expected to change, and what earlier answers say about the similarities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.optimize import minimize
from scipy.spatial.distance import squareform
from scipy.special import expit

SLOPE = 18.0  # of the log odds that two groups show one person, per unit of mean similarity: see docs/identities.md
DOUBT = (0.05, 1.0, 1.0)  # precision of the prior of slope and offsets, which answers change
MOST_HALVED = 1500  # rows of a group that is looked at in halves; larger ones are asked about as a whole only
BOUNDS = ((1.0, None), (None, None), (None, None))  # more similar groups never count as less likely one person


class Beliefs:
    """The probability that two groups, or the two halves of one, show one person; starts at a half at the threshold.

    A logistic curve over the mean similarity, with an offset for groups and one for halves; each answer moves it (maximum a
    posteriori).

    Args:
        least: mean similarity of two groups that merge.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._prior = np.array([SLOPE, 0.0, 0.0])
        self._weights = self._prior.copy()
        self._seen: list[tuple[float, bool, bool]] = []

    def probability(self, mean: np.ndarray, are_halves: bool) -> np.ndarray:
        """Return the probabilities (n,) for mean similarities (n,)."""
        return expit(self._weights[0] * (mean - self.least) + self._weights[1 + are_halves])

    def learn(self, mean: float, are_halves: bool, is_same: bool) -> None:
        """Take an answer into account."""
        self._seen.append((mean - self.least, are_halves, is_same))
        x = np.array([(far, not halves, halves) for far, halves, _ in self._seen], float)
        y = np.array([same for *_, same in self._seen], float)
        doubt = np.array(DOUBT)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            odds, far = x @ weights, weights - self._prior
            value = np.logaddexp(0, odds).sum() - y @ odds + 0.5 * doubt @ far**2
            return float(value), x.T @ (expit(odds) - y) + doubt * far

        self._weights = minimize(loss, self._weights, jac=True, method="L-BFGS-B", bounds=BOUNDS).x


def expected_change(probability: np.ndarray, num_one: np.ndarray, num_other: np.ndarray) -> np.ndarray:
    """Return the expected number of pairs of rows that an answer joins, (n,).

    Args:
        probability: (n,) of the answer that changes the groups: one person for two groups, two people for halves of one.
        num_one, num_other: (n,) rows on the two sides.
    """
    return probability * num_one * num_other


class Halving(NamedTuple):
    """A group in two parts: rows (n,) and (m,) of them, and the mean similarity of their pairs."""

    one: np.ndarray
    other: np.ndarray
    mean: float


def halvings(similarity: np.ndarray) -> list[Halving]:
    """Return the steps in which average linkage puts a group together, the last one first.

    Args:
        similarity: (n, n), symmetric, of the rows of the group; 2 rows or more.
    """
    count = len(similarity)
    distances = 1 - similarity
    np.fill_diagonal(distances, 0)
    steps = linkage(squareform(distances, checks=False), "average")
    parts: list[np.ndarray] = [np.array([row]) for row in range(count)]
    found = []
    for one, other, distance, _ in steps:
        first, second = parts[int(one)], parts[int(other)]
        found.append(Halving(first, second, 1 - float(distance)))
        parts.append(np.concatenate([first, second]))
    return found[::-1]
