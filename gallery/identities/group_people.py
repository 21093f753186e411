"""Group the rows of a gallery by person: neighbours, shared neighbours, average linkage with constraints, lasting names."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...common.errors import UserError
from ...evaluation.clustering.average_linkage import Constraints, average_linkage, in_order
from ...evaluation.clustering.cluster_figures import row_fit
from ...evaluation.clustering.jaccard_graph import REACH, SimilarPairs
from ...evaluation.clustering.person_pairs import LEAST, person_pairs
from ...evaluation.clustering.transit_times import MOST_WEIGHT, TIME_WEIGHT, NearImages
from ...evaluation.reranking.neighbours import pair_distances
from ..search.exact_index import ExactIndex
from ..search.search_result import limit_of
from ..storage.camera_statistics import CameraNorm
from ..storage.gallery import Gallery
from .decisions.decided_people import Decided, board_of, read_decided
from .decisions.people_board import PeopleBoard
from .near_rows import AUTO, camera_norm_of, compared_rows, near_rows, usable_positions
from .person_columns import People, is_none, new_name, read_people
from .record_constraints import constraints_of, sightings_of, times_of

BAND = (0.18, 0.26)  # of LEAST, between which the best value of other data is expected
WHOLE_ROWS = 20_000  # more rows are not compared again for a few new ones
_FMR = re.compile(r"fmr=([0-9.eE-]+)")


@dataclass(frozen=True)
class GroupingOptions:
    """How rows are grouped.

    Args:
        threshold: "auto"; "fmr=0.001": in addition only pairs within the gallery's distance for this false match rate count;
            or a distance between 0 and 1, up to which two groups merge: 1 - the similarity of `person_pairs`.
        k1, k2: as for `person_pairs`.
        window: seconds; rows further apart in time are not compared. None = no limit.
        time_weight: how much the time between two rows counts next to their similarity, as for `NearImages`; 0 = not.
        camera_norm, index: as for `camera_norm_of` and `near_rows`.
        regroup: group all rows again but the confirmed ones; otherwise groups stay, and new rows join or found groups.
    Raises:
        UserError: a value is out of range.
    """

    threshold: str = AUTO
    k1: int = 30
    k2: int = 6
    window: float | None = None
    time_weight: float = TIME_WEIGHT
    camera_norm: str = AUTO
    index: str = AUTO
    regroup: bool = False

    def __post_init__(self) -> None:
        _ = self.least
        for name in ("k1", "k2"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: 1 or more neighbours, got {getattr(self, name)}")
        if self.window is not None and not self.window > 0:
            raise UserError(f"--window: seconds above 0, got {self.window}")
        if not 0 <= self.time_weight <= MOST_WEIGHT:
            raise UserError(f"--time-weight: a number from 0 to {MOST_WEIGHT:g}, got {self.time_weight}")

    @property
    def fmr(self) -> float | None:
        """The false match rate asked for, None = none."""
        match = _FMR.fullmatch(self.threshold)
        return float(match[1]) if match else None

    @property
    def least(self) -> float:
        """Smallest mean similarity of two groups that merge."""
        if self.threshold == AUTO or self.fmr is not None:
            return LEAST
        try:
            distance = float(self.threshold)
        except ValueError:
            distance = -1.0
        if not 0 < distance < 1:
            raise UserError(
                f"--threshold: {AUTO}, fmr=RATE such as fmr=0.001, or a distance between 0 and 1, got {self.threshold!r}"
            )
        return 1 - distance


@dataclass(frozen=True, eq=False)
class RowGraph:
    """The compared rows of a gallery and their similarities.

    Args:
        rows: (n,) places among the live rows, ascending.
        pairs: similarities of pairs of them.
        near: (n, REACH * k1 + 1) nearest of them by looks, see `unless_similar`.
        constraints: on them.
        is_open: (n,) bool: rows whose person may change.
    """

    rows: np.ndarray
    pairs: SimilarPairs
    near: np.ndarray
    constraints: Constraints
    is_open: np.ndarray

    def groups(self, least: float) -> np.ndarray:
        """Return the group (n,) of each row."""
        return average_linkage(len(self.rows), self.pairs, least, self.constraints)


@dataclass(frozen=True, eq=False)
class Grouping:
    """What was found, before it is written.

    Args:
        before, after: people of the live rows.
        graph: of the rows that were compared.
        groups: (n,) group of each of them.
        options: of the grouping.
        seconds: time it took.
        board: the people of all live rows, as decisions change them; None = nothing was decided.
    """

    before: People
    after: People
    graph: RowGraph
    groups: np.ndarray
    options: GroupingOptions
    seconds: float
    board: PeopleBoard | None = None


def group_people(
    gallery: Gallery,
    options: GroupingOptions = GroupingOptions(),
    to_decide: bool = False,
    compared: RowGraph | None = None,
) -> Grouping:
    """Find out which rows show one person; nothing is written (see `write_people`).

    People that somebody has confirmed stay as they are, and so do all groups of two or more unless `options.regroup`. The groups
    keep to the decisions of the gallery (`DecisionFile`), which join and part others, too.

    Args:
        to_decide: all rows are compared, and the board is there even if nothing was decided.
        compared: graph of an earlier grouping of all these rows, whose options differ in threshold and regroup only.
    Raises:
        UserError: the gallery has fewer than three usable rows, no threshold for the rate asked for, or an option is wrong.
    """
    begin = time.monotonic()
    before = read_people(gallery)
    decided = read_decided(gallery, before, to_decide)
    graph = _compared(gallery, before, options, decided, to_decide or compared is not None, compared)
    groups = graph.groups(options.least)
    names, fit = before.names.copy(), before.fit.copy()
    found = _named(groups, graph, before)
    names[graph.rows[graph.is_open]] = found[graph.is_open]
    board = None
    if decided is not None:
        after = replace(before, names=names)
        board = board_of(after, decided, graph.rows, graph.pairs, graph.constraints, options.least)
        names, groups = board.row_names(), in_order(board.group[graph.rows])
    fits = row_fit(graph.pairs, groups)
    own = np.where(np.isnan(fits.own), np.nan, fits.silhouette)
    fit[graph.rows] = own
    after = replace(before, names=names, fit=fit)
    return Grouping(before, after, graph, groups, options, time.monotonic() - begin, board)


def _compared(
    gallery: Gallery,
    people: People,
    options: GroupingOptions,
    decided: Decided | None,
    whole: bool,
    compared: RowGraph | None,
) -> RowGraph:
    """Return the rows of a gallery, compared; of a large one the new ones and those near them, unless `whole`."""
    live = np.searchsorted(np.flatnonzero(gallery.is_live), usable_positions(gallery))
    if len(live) < 3:
        raise UserError(
            f"{gallery.path}: {len(live)} rows can be compared; grouping needs 3 or more, export more images"
        )
    owners, is_open = _settled(people, options.regroup)
    if decided is not None:
        owners = decided.owners(owners, people.names)
    norm = camera_norm_of(gallery, options.camera_norm)
    if not whole and len(live) > WHOLE_ROWS and not options.regroup and 4 * is_open[live].sum() < len(live):
        live = _around(gallery, people, live, options.k1, norm)
    positions = np.flatnonzero(gallery.is_live)[live]
    if compared is None:
        pairs, near = _pairs(gallery, compared_rows(gallery, positions, norm), positions, options, norm)
    else:
        pairs, near = compared.pairs, compared.near
    constraints = constraints_of(gallery, positions, people.keys[live], owners[live], near)
    if decided is not None:
        constraints = decided.constraints(constraints, live)
    return RowGraph(live, pairs, near, constraints, is_open[live])


def _settled(people: People, regroup: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the owner (N,) of each row, -1 = open, and which rows are open (N,)."""
    sizes = Counter(people.names.tolist())
    known = ~is_none(people.names)
    several = np.array([sizes[name] > 1 for name in people.names.tolist()], bool)
    settled = people.confirmed & known if regroup else known & (people.confirmed | several)
    owners = np.full(len(settled), -1)
    if settled.any():
        owners[settled] = np.unique(people.names[settled].astype(str), return_inverse=True)[1]
    return owners, ~settled


def _around(gallery: Gallery, people: People, live: np.ndarray, k1: int, norm: CameraNorm | None) -> np.ndarray:
    """Return the open rows without a name, their neighbours, and all rows of the neighbours' people; places among the live rows."""
    info, all_live = gallery.info, np.flatnonzero(gallery.is_live)
    index = ExactIndex(gallery.embeddings, info.metric, info.scale, change=norm.rows if norm else None)
    new = live[is_none(people.names[live])]
    mask = np.zeros(gallery.state.count, bool)
    mask[all_live[live]] = True
    near = [hit.positions for hit in index.search(index.decoded(all_live[new]), k1 + 1, mask)]
    chosen = np.zeros(len(all_live), bool)
    chosen[new] = True
    chosen[np.searchsorted(all_live, np.unique(np.concatenate([np.empty(0, np.int64), *near])))] = True
    touched = set(people.names[chosen].tolist()) - {None}
    chosen |= np.array([name in touched for name in people.names.tolist()], bool)
    return live[chosen[live]]


def _pairs(
    gallery: Gallery, rows: np.ndarray, positions: np.ndarray, options: GroupingOptions, norm: CameraNorm | None
) -> tuple[SimilarPairs, np.ndarray]:
    """Return the similar pairs of the rows that may count as evidence, and the nearest of each by looks, as in `RowGraph`."""
    features = torch.from_numpy(rows)
    near = NearImages(
        features,
        lambda k: near_rows(rows, k, options.index),
        sightings_of(gallery, positions),
        options.time_weight,
    )
    pairs = person_pairs(features, options.k1, options.k2, near.find)
    kept = np.ones(len(pairs.value), bool)
    if options.window is not None:
        times = times_of(gallery, positions)
        kept &= ~(np.abs(times[pairs.first] - times[pairs.second]) > options.window)
    if options.fmr is not None:
        squared = pair_distances(features, pairs.first, pairs.second)
        distances = squared / 2 if gallery.info.metric == "cosine" else np.sqrt(squared)
        kept &= distances <= _limit(gallery, options.fmr, norm)
    return SimilarPairs(*(column[kept] for column in pairs)), near.nearest_by_looks(REACH * options.k1).copy()


def _limit(gallery: Gallery, fmr: float, norm: CameraNorm | None) -> float:
    """Return the gallery's distance for the false match rate asked for."""
    info = replace(gallery.info, camera_norm=norm.mode if norm else "none")
    limit, known = limit_of(info), (info.limit or {}).get("fmr")
    if limit is None or known != fmr:
        has = f"one for {known}" if known is not None else "none"
        raise UserError(
            f"--threshold: {gallery.path} has no distance for a false match rate of {fmr}, it has {has} (camera "
            f"normalisation {info.camera_norm}); calibrate the weights with vitreid test --calibrate {fmr} and export again, or "
            f"take --threshold {AUTO}"
        )
    return limit


def _named(groups: np.ndarray, graph: RowGraph, people: People) -> np.ndarray:
    """Return the name (n,) of each row's group: that of its settled rows, else the one most of its rows had, else a new one.

    A name stays with the group that has most of its rows.
    """
    names = people.names[graph.rows]
    chosen: dict[int, str] = {}
    taken: set[str] = set(people.names.tolist()) - {None}  # type: ignore[arg-type]
    settled = ~graph.is_open
    chosen.update(zip(groups[settled].tolist(), names[settled].tolist(), strict=True))
    used = set(chosen.values())
    known = ~is_none(names) & graph.is_open
    votes = Counter(zip(groups[known].tolist(), names[known].tolist(), strict=True))
    for (group, name), _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if group not in chosen and name not in used:
            chosen[group] = name
            used.add(name)
    firsts = np.unique(groups, return_index=True)[1]
    for group, first in enumerate(firsts.tolist()):
        if group not in chosen:
            chosen[group] = new_name(people.keys[graph.rows[first]], taken)
            taken.add(chosen[group])
    found = np.empty(len(groups), object)
    found[:] = [chosen[group] for group in groups.tolist()]
    return found
