"""Assignment of boxes to tracks at the least cost."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

_FORBIDDEN = 1e6


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pairs of least total cost; a pair of cost inf is never made.

    Args:
        cost: (N, M), inf where the pair is forbidden.
    Returns:
        Two (P,) int64 arrays.

    >>> assign(np.array([[0.1, 0.2], [0.1, np.inf]]))
    (array([0, 1]), array([1, 0]))
    """
    allowed = np.isfinite(cost)
    if not allowed.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, _FORBIDDEN))
    made = allowed[rows, columns]
    return rows[made], columns[made]
