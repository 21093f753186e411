"""How good a clustering is: against labels (pairs, B-cubed), and without them (silhouette, stability)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ...common.errors import UserError
from .jaccard_graph import SimilarPairs

SHARE, DRAWS = 0.8, 5  # of the rows in a resampling, number of resamplings


@dataclass(frozen=True)
class ClusteringFigures:
    """A clustering compared with labels. Fractions 0-1.

    Pairs of rows count as retrieved if they share a group, and as relevant if they share a label. B-cubed averages precision
    and recall over the rows (Bagga & Baldwin, COLING 1998), so that large groups do not outweigh the others.

    Args:
        precision, recall: of the pairs; NaN without such a pair.
        b3_precision, b3_recall: B-cubed.
        num_rows: rows compared.
        num_true, num_found: labels, and groups, of two rows or more.
        num_true_all, num_found_all: all labels, and all groups.
    """

    precision: float
    recall: float
    b3_precision: float
    b3_recall: float
    num_rows: int
    num_true: int
    num_found: int
    num_true_all: int
    num_found_all: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall of the pairs."""
        return harmonic_mean(self.precision, self.recall)

    @property
    def b3_f1(self) -> float:
        """Harmonic mean of B-cubed precision and recall."""
        return harmonic_mean(self.b3_precision, self.b3_recall)


def harmonic_mean(a: float, b: float) -> float:
    """Return the harmonic mean of two fractions; 0 if both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


def compare_with_labels(labels: np.ndarray, groups: np.ndarray) -> ClusteringFigures:
    """Compare groups (N,) with labels (N,), numbers or names; each row has both.

    Raises:
        ValueError: the lengths differ or are 0.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    if labels.shape != groups.shape or labels.ndim != 1 or not len(labels):
        raise UserError(f"labels: one per row, got shapes {labels.shape} and {groups.shape}")
    label, group = (np.unique(values, return_inverse=True)[1] for values in (labels, groups))
    both = np.stack([label, group])
    cells, shared = np.unique(both, axis=1, return_counts=True)  # rows with label i and group j
    of_label, of_group = np.bincount(label), np.bincount(group)
    relevant, retrieved = (int((sizes * (sizes - 1)).sum()) for sizes in (of_label, of_group))
    right = int((shared * (shared - 1)).sum())
    squares = shared.astype(np.float64) ** 2
    return ClusteringFigures(
        precision=right / retrieved if retrieved else float("nan"),
        recall=right / relevant if relevant else float("nan"),
        b3_precision=float((squares / of_group[cells[1]]).sum() / len(label)),
        b3_recall=float((squares / of_label[cells[0]]).sum() / len(label)),
        num_rows=len(label),
        num_true=int((of_label > 1).sum()),
        num_found=int((of_group > 1).sum()),
        num_true_all=len(of_label),
        num_found_all=len(of_group),
    )


@dataclass(frozen=True, eq=False)
class RowFit:
    """How each row fits its group. A pair that the graph leaves out has similarity 0.

    Args:
        own: (N,) mean similarity to the other rows of its group; NaN for a row alone.
        next: (N,) mean similarity to the group that is next best for it; 0 = no other group is near.
        next_group: (N,) that group, -1 = none.
    """

    own: np.ndarray
    next: np.ndarray
    next_group: np.ndarray

    @property
    def silhouette(self) -> np.ndarray:
        """(N,) (b - a) / max(a, b) of the mean distances to the own (a) and the next group (b); 0 for a row alone.

        Rousseeuw, Journal of Computational and Applied Mathematics 20, 1987, with the distance 1 - similarity.
        """
        own, other = 1 - self.own, 1 - self.next
        larger = np.maximum(own, other)
        return np.where(np.isnan(own) | (larger <= 0), 0.0, (other - own) / np.where(larger > 0, larger, 1))


def row_fit(pairs: SimilarPairs, groups: np.ndarray) -> RowFit:
    """Return the fit of each row (N,) to its group and to the next one, given groups numbered from 0."""
    count, num_groups = len(groups), int(groups.max(initial=-1)) + 1
    values, named = pairs.value.astype(np.float64), groups.astype(np.int32)
    forward, back = (
        sparse.coo_array((values, (rows, named[others])), shape=(count, num_groups)).tocsr()
        for rows, others in ((pairs.first, pairs.second), (pairs.second, pairs.first))
    )
    totals = forward + back
    rows = np.repeat(np.arange(count), np.diff(totals.indptr))
    sizes = np.bincount(groups, minlength=num_groups)
    is_own = totals.indices == groups[rows]
    others = (sizes[groups] - 1).astype(np.float64)
    own = np.where(others > 0, 0.0, np.nan)
    own[rows[is_own]] = totals.data[is_own] / np.where(others > 0, others, np.nan)[rows[is_own]]
    mean = totals.data[~is_own] / sizes[totals.indices[~is_own]]
    rows, near = rows[~is_own], totals.indices[~is_own]
    best, best_group = np.zeros(count), np.full(count, -1)
    order = np.lexsort((near, -mean, rows))
    leading = order[np.unique(rows[order], return_index=True)[1]]
    best[rows[leading]], best_group[rows[leading]] = mean[leading], near[leading]
    return RowFit(own, best, best_group)


@dataclass(frozen=True, eq=False)
class Stability:
    """What remains of the groups when some rows are left out. Fractions 0-1.

    Args:
        of_group: (G,) mean Jaccard coefficient of each group with the most similar group of a resampling, over those with two
            or more of its rows; NaN where there was none.
        num_groups: (S,) number of groups of two rows or more in each resampling, divided by that of all groups' remainders.
    """

    of_group: np.ndarray
    num_groups: np.ndarray


Cluster = Callable[[np.ndarray], np.ndarray]  # kept rows (n,) -> their groups (n,)


def stability(
    groups: np.ndarray, cluster: Cluster, share: float = SHARE, draws: int = DRAWS, seed: int = 0
) -> Stability:
    """Cluster random subsets of the rows again and compare (Hennig, Computational Statistics & Data Analysis 52, 2007).

    Args:
        groups: (N,) groups of all rows, numbered from 0.
        cluster: returns the groups (n,) of some rows, given in ascending order.
        share: of the rows in each subset.
        draws: number of subsets.
        seed: of the drawn rows.
    """
    rng, count = np.random.default_rng(seed), int(groups.max(initial=-1)) + 1
    total, seen, numbers = np.zeros(count), np.zeros(count), []
    for _ in range(draws):
        kept = np.sort(rng.choice(len(groups), round(share * len(groups)), replace=False))
        again = cluster(kept)
        sizes = np.bincount(groups[kept], minlength=count)
        best = _best_overlap(groups[kept], again, count)
        usable = sizes > 1
        total[usable] += best[usable]
        seen += usable
        numbers.append((np.bincount(again) > 1).sum() / max(int(usable.sum()), 1))
    with np.errstate(invalid="ignore"):
        return Stability(total / seen, np.array(numbers))


def _best_overlap(groups: np.ndarray, again: np.ndarray, count: int) -> np.ndarray:
    """Return the largest Jaccard coefficient (count,) of each group with a group of the second clustering."""
    cells, shared = np.unique(np.stack([groups, again]), axis=1, return_counts=True)
    size, other = np.bincount(groups, minlength=count), np.bincount(again)
    best = np.zeros(count)
    np.maximum.at(best, cells[0], shared / (size[cells[0]] + other[cells[1]] - shared))
    return best


def pairs_among(pairs: SimilarPairs, kept: np.ndarray, count: int) -> SimilarPairs:
    """Return the pairs within some of `count` rows, ascending (n,), which are numbered 0 to n - 1."""
    place = np.full(count, -1, np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    first, second = place[pairs.first], place[pairs.second]
    inside = (first >= 0) & (second >= 0)
    return SimilarPairs(first[inside], second[inside], pairs.value[inside])
