"""Confidence intervals of the figures, by resampling the queries."""

from __future__ import annotations

import numpy as np

from ..common.errors import UserError
from .input_checks import Labels, as_labels
from .retrieval_result import RetrievalResult


def bootstrap(
    result: RetrievalResult, *, level: float = 0.95, samples: int = 1000, seed: int = 0, groups: Labels | None = None
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of mAP, mINP and Rank-1, -5, -10, -20 over resampled queries (Efron, 1979).

    Gallery and model stay fixed: the interval shows how a figure varies with other queries of the same kind. Queries of one
    person resemble each other; pass the pids as `groups` to resample whole people.

    Args:
        level: share of the samples inside the interval, between 0 and 1.
        samples: number of samples, each of as many queries (or groups) as there are valid ones.
        seed: seed of the resampling, 0 or more.
        groups: (num_queries,) integer labels of all the queries, e.g. pids; None = queries are drawn one by one.
    Returns:
        (low, high) under the names of `result.summary()`; NaN if there is only one query (or group).
    Raises:
        ValueError: an argument is out of range, or `groups` is not one integer per query.
    """
    check_draws(level, samples, seed)
    return _intervals(result, result.rows(), level, samples, seed, groups)


def paired_bootstrap(
    first: RetrievalResult,
    second: RetrievalResult,
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    groups: Labels | None = None,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of `second` minus `first`, the results of two models on the same queries, by figure.

    Each sample draws the same queries (or groups) for both, so the difficulty that a query has for both cancels out.

    Args:
        first, second: results of the same queries and gallery, in the same order.
        level, samples, seed, groups: as for `bootstrap`.
    Raises:
        ValueError: the results have different queries, or an argument is out of range.
    """
    check_draws(level, samples, seed)
    if first.num_queries != second.num_queries or not np.array_equal(first.query_index, second.query_index):
        raise UserError(
            f"first and second are about different queries ({first.num_valid} of {first.num_queries} and {second.num_valid} "
            f"of {second.num_queries} are valid); evaluate both models on one test set"
        )
    pairs = zip(first.rows().items(), second.rows().values(), strict=True)
    gains = {name: after.astype(float) - before for (name, before), after in pairs}
    return _intervals(first, gains, level, samples, seed, groups)


def check_draws(level: float, samples: int, seed: int) -> None:
    """Raise ValueError if one of `bootstrap`'s arguments is out of range."""
    if not 0 < level < 1:
        raise UserError(f"level: a share above 0 and below 1, e.g. 0.95, got {level}")
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name}: {least} or more, got {value}")


def _intervals(
    result: RetrievalResult, rows: dict[str, np.ndarray], level: float, samples: int, seed: int, groups: Labels | None
) -> dict[str, tuple[float, float]]:
    """Return the intervals of the means of `rows` (V,) each, one value per row of `result`."""
    units = (
        np.arange(result.num_queries) if groups is None else as_labels("groups", groups, result.num_queries, "query")
    )
    sums, sizes = _totals(np.stack(list(rows.values()), axis=1), units[result.query_index])
    means = resampled_means(sums, sizes, samples, np.random.default_rng(seed))
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    if len(sizes) < 2:
        ends[:] = np.nan
    return {name: (float(low), float(high)) for name, (low, high) in zip(rows, ends.T, strict=True)}


def _totals(values: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum (U, M) of the rows of values (V, M) in each distinct unit, and how many rows (U,) it has."""
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(unit, weights=column, minlength=len(sizes)) for column in values.T], axis=1)
    return sums, sizes


def resampled_means(sums: np.ndarray, sizes: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means (samples, M) over the rows of as many units as there are, drawn with replacement."""
    count = len(sizes)
    times = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(samples))
    return np.stack([drawn @ sums / (drawn @ sizes) for drawn in times])
