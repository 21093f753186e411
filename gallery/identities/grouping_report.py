"""What a grouping amounts to: how many people, how sure each is, which to look at, and its figures with and without labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...common.text import percent, table
from ...evaluation.clustering.average_linkage import average_linkage
from ...evaluation.clustering.cluster_figures import (
    ClusteringFigures,
    Stability,
    compare_with_labels,
    pairs_among,
    row_fit,
    stability,
)
from ...evaluation.clustering.person_pairs import LEAST
from ..storage.gallery import Gallery
from .decisions.decided_links import ContradictionError
from .group_people import BAND, Grouping
from .person_columns import is_none

SHOWN = 10  # people, and pairs of them, that are listed
RESAMPLED_ROWS = 200_000  # more rows are not clustered again, unless asked for


@dataclass(frozen=True)
class GroupFacts:
    """A person found.

    Args:
        person: name.
        size: number of rows.
        cameras: number of cameras.
        fit: mean silhouette of the rows, -1 to 1.
        stable: share of the group that is found again when rows are left out; NaN = not measured.
        next: the person most like this one; None = nobody is near.
        next_similarity: mean similarity to that person; two people merge at the threshold.
    """

    person: str
    size: int
    cameras: int
    fit: float
    stable: float
    next: str | None
    next_similarity: float


@dataclass(frozen=True, eq=False)
class GroupingReport:
    """The figures of a grouping. People are groups of two rows or more.

    Args:
        num_rows, num_people, num_alone: rows compared, people, rows alone.
        low, high: smallest and largest number of people between the thresholds at which other data was grouped best.
        groups: the people.
        silhouette: mean over the rows of people.
        figures: against the pids of the records; None without.
        stability: None = not measured.
        seconds: time of the grouping.
        num_decisions: decisions in force that people have made.
        contradictions: decisions that were set aside, since they contradict earlier ones.
    """

    num_rows: int
    num_people: int
    num_alone: int
    low: int
    high: int
    groups: list[GroupFacts]
    silhouette: float
    figures: ClusteringFigures | None
    stability: Stability | None
    seconds: float
    num_decisions: int = 0
    contradictions: tuple[ContradictionError, ...] = ()

    @property
    def one_camera(self) -> list[GroupFacts]:
        """The people seen by one camera only."""
        return [group for group in self.groups if group.cameras == 1]

    @property
    def to_look_at(self) -> list[GroupFacts]:
        """The people most likely to be wrong: those least sure first, by their own rows or by the next person."""
        return sorted(self.groups, key=lambda group: (min(group.fit, 1 - group.next_similarity / LEAST), group.person))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; None for what was not measured."""
        figures = self.figures and {**asdict(self.figures), "f1": self.figures.f1, "b3_f1": self.figures.b3_f1}
        stable = None if self.stability is None else float(np.nanmean(self.stability.of_group))
        names = ("num_rows", "num_people", "num_alone", "low", "high", "silhouette", "seconds")
        people = [
            {**asdict(group), "stable": None if np.isnan(group.stable) else group.stable} for group in self.groups
        ]
        return {name: getattr(self, name) for name in names} | {
            "stability": stable,
            "labels": figures,
            "people": people,
            "decisions": self.num_decisions,
            "contradictions": [
                {"decision": one.decision.id, "earlier": [other.id for other in one.earlier]}
                for one in self.contradictions
            ],
        }

    def __str__(self) -> str:
        """Return some lines."""
        lines = [
            f"{self.num_rows} rows: {self.num_people} people seen twice or more ({self.low} to {self.high}), "
            f"{self.num_alone} rows alone; {self.seconds:.1f} s",
            f"{len(self.one_camera)} people of one camera only; mean silhouette {self.silhouette:.3f}"
            + ("" if self.stability is None else f", stability {np.nanmean(self.stability.of_group):.3f}"),
        ]
        if (found := self.figures) is not None:
            lines.append(
                f"against the pids of {found.num_rows} rows: pairs precision {percent(found.precision)}, recall "
                f"{percent(found.recall)}, F {percent(found.f1)}; B-cubed {percent(found.b3_precision)}, "
                f"{percent(found.b3_recall)}, F {percent(found.b3_f1)}; {found.num_found} people found, {found.num_true} true"
            )
        if self.num_decisions:
            lines.append(f"{self.num_decisions} decisions, {len(self.contradictions)} of them set aside")
        lines += [f"{one.decision.kind!r} ({one.decision.id[:8]}): {one}" for one in self.contradictions[:SHOWN]]
        if self.groups:
            lines += ["to look at:", _table(self.to_look_at[:SHOWN])]
        return "\n".join(lines)


def _table(groups: list[GroupFacts]) -> str:
    head = ("person", "rows", "cameras", "fit", "stable", "next", "similarity")
    rows = [
        (
            *(group.person, str(group.size), str(group.cameras), f"{group.fit:.2f}"),
            *(
                "-" if np.isnan(group.stable) else f"{group.stable:.2f}",
                group.next or "-",
                f"{group.next_similarity:.2f}",
            ),
        )
        for group in groups
    ]
    return table([head, *rows])


def report_of(gallery: Gallery, found: Grouping, draws: int | None = None, seed: int = 0) -> GroupingReport:
    """Return the report of a grouping.

    Args:
        draws: resamplings for the stability; None = 5 up to RESAMPLED_ROWS rows, else 0.
    """
    graph, groups = found.graph, found.groups
    least, sizes = found.options.least, np.bincount(groups)
    counts = [int((np.bincount(graph.groups(value)) > 1).sum()) for value in _band(least)]
    named = Counter(name for name in found.after.names.tolist() if name is not None)  # of all rows, compared or not
    num_people = sum(size > 1 for size in named.values())
    others = num_people - int((sizes > 1).sum())
    draws = (5 if len(groups) <= RESAMPLED_ROWS else 0) if draws is None else draws
    stable = stability(groups, lambda kept: _again(found, kept, least), draws=draws, seed=seed) if draws else None
    fits = row_fit(graph.pairs, groups)
    silhouettes = fits.silhouette[sizes[groups] > 1]
    return GroupingReport(
        sum(named.values()),
        num_people,
        len(named) - num_people,
        min(num_people, *(others + count for count in counts)),
        max(num_people, *(others + count for count in counts)),
        _facts(gallery, found, fits.silhouette, stable),
        float(silhouettes.mean()) if len(silhouettes) else 0.0,
        _against_pids(gallery, found),
        stable,
        found.seconds,
        found.board.links.num_decisions if found.board else 0,
        tuple(found.board.links.contradictions) if found.board else (),
    )


def _band(least: float) -> list[float]:
    """Return thresholds around `least`, as BAND lies around LEAST."""
    return [min(least * edge / LEAST, 0.99) for edge in BAND]


def _again(found: Grouping, kept: np.ndarray, least: float) -> np.ndarray:
    graph, count = found.graph, len(found.groups)
    pairs = pairs_among(graph.pairs, kept, count)
    return average_linkage(len(kept), pairs, least, graph.constraints.among(kept))


def _live(gallery: Gallery, column: str) -> np.ndarray:
    """Return a text column (N,) of the live rows."""
    return np.array(gallery.select([column])[column].filter(pa.array(gallery.is_live)).to_pylist(), object)


def _against_pids(gallery: Gallery, found: Grouping) -> ClusteringFigures | None:
    pids, names = _live(gallery, "pid"), found.after.names
    known = ~is_none(pids) & ~is_none(names)
    return compare_with_labels(pids[known].astype(str), names[known].astype(str)) if known.sum() > 1 else None


def _facts(gallery: Gallery, found: Grouping, silhouette: np.ndarray, stable: Stability | None) -> list[GroupFacts]:
    """Return the facts of the groups of two or more, in the order of their first rows."""
    groups, sizes = found.groups, np.bincount(found.groups)
    cameras = np.array(["" if name is None else name for name in _live(gallery, "camera")[found.graph.rows]], str)
    pairs = np.unique(np.stack([groups, np.unique(cameras, return_inverse=True)[1]]), axis=1)
    num_cameras = np.bincount(pairs[0], minlength=len(sizes))
    fit = np.bincount(groups, silhouette) / sizes
    near, similarity = _nearest_groups(found, sizes)
    names = found.after.names[found.graph.rows]
    of_group = names[np.unique(groups, return_index=True)[1]]
    return [
        GroupFacts(
            *(of_group[group], int(sizes[group]), int(num_cameras[group]), float(fit[group])),
            float("nan") if stable is None else float(stable.of_group[group]),
            of_group[near[group]] if near[group] >= 0 else None,
            float(similarity[group]),
        )
        for group in np.flatnonzero(sizes > 1)
    ]


def _nearest_groups(found: Grouping, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group (G,) most like each group, -1 = none, and their mean similarity (G,)."""
    pairs, groups = found.graph.pairs, found.groups
    one, other = groups[pairs.first], groups[pairs.second]
    apart = one != other
    key = np.minimum(one, other)[apart] * len(sizes) + np.maximum(one, other)[apart]
    keys, inverse = np.unique(key, return_inverse=True)
    first, second = np.divmod(keys, len(sizes))
    mean = np.bincount(inverse, pairs.value[apart], len(keys)) / (sizes[first] * sizes[second])
    ends, others = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort((others, -np.tile(mean, 2), ends))
    leading = order[np.unique(ends[order], return_index=True)[1]]
    near, similarity = np.full(len(sizes), -1), np.zeros(len(sizes))
    near[ends[leading]], similarity[ends[leading]] = others[leading], np.tile(mean, 2)[leading]
    return near, similarity
