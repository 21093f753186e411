"""The decisions of a gallery, applied to a grouping of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ....evaluation.clustering.average_linkage import Constraints
from ....evaluation.clustering.jaccard_graph import SimilarPairs
from ...keeping.decision_file import ENROL, Decision, DecisionFile
from ...storage.gallery import Gallery
from ..person_columns import People, is_none
from .decided_links import DecidedLinks, in_force
from .people_board import ComparedRows, PeopleBoard, links_among, without_parted


@dataclass(frozen=True, eq=False)
class Decided:
    """What was decided about the live rows of a gallery.

    Args:
        decisions: all of them, oldest first.
        keys: (N,) of the rows, as decisions name them.
        links: that follow from the decisions, and from the rows that were confirmed by `confirm`.
    """

    decisions: Sequence[Decision]
    keys: Sequence[str]
    links: DecidedLinks

    @property
    def place(self) -> dict[str, int]:
        """Return the row of each key, the first of several."""
        return {key: place for place, key in reversed(list(enumerate(self.keys)))}

    def owners(self, owners: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return the owners (N,) with those of rows that were given a name; -1 = open.

        Args:
            owners: (N,) of the settled rows.
            names: (N,) person of each row.
        """
        found, place = owners.copy(), self.place
        settled = np.flatnonzero(owners >= 0)
        of_name = dict(zip(names[settled].tolist(), owners[settled].tolist(), strict=True))
        for key, name in self.links.names.items():
            if key in place and found[place[key]] < 0:
                found[place[key]] = of_name.setdefault(
                    name, int(max(owners.max(initial=-1), *of_name.values(), -1)) + 1
                )
        return found

    def constraints(self, constraints: Constraints, rows: np.ndarray) -> Constraints:
        """Return the constraints on some rows (n,) with the rows that were said to differ."""
        number = {self.keys[place]: i for i, place in enumerate(rows.tolist())}
        apart = links_among(self.links, number)[1]
        records = without_parted(constraints, apart)
        return replace(records, apart=np.concatenate([records.apart, apart]))


def read_decided(gallery: Gallery, people: People, even_if_none: bool = False) -> Decided | None:
    """Return what was decided about the rows of a gallery; None if nothing was, unless `even_if_none`.

    Raises:
        UserError: the file is damaged.
    """
    decisions = DecisionFile(gallery.path).read()
    if not decisions and not even_if_none:
        return None
    keys = [key.hex() for key in gallery.live_keys().to_pylist()]
    confirmed = np.flatnonzero(people.confirmed & ~is_none(people.names))
    names = {keys[place]: str(people.names[place]) for place in confirmed.tolist()}
    return Decided(decisions, keys, DecidedLinks(decisions, names))


def confirmed_rows(gallery: Gallery, people: People) -> np.ndarray:
    """Return (N,) bool: the live rows that were confirmed, or said to show the person of another row, or given a name."""
    decided = read_decided(gallery, people)
    if decided is None:
        return people.confirmed
    known = decided.links.confirmed_keys()
    return people.confirmed | np.array([key in known for key in decided.keys], bool)


def enrolled_rows(gallery: Gallery) -> np.ndarray:
    """Return (N,) bool: the live rows that were added as images of a person with a name."""
    known = {key for one in in_force(DecisionFile(gallery.path).read()) if one.kind == ENROL for key in one.rows}
    if not known:
        return np.zeros(int(gallery.is_live.sum()), bool)
    return np.array([key.hex() in known for key in gallery.live_keys().to_pylist()], bool)


def board_of(
    people: People, decided: Decided, rows: np.ndarray, pairs: SimilarPairs, constraints: Constraints, least: float
) -> PeopleBoard:
    """Return the people of the live rows, as a grouping found them, changed by the decisions.

    Args:
        people: names of the live rows.
        rows: (n,) live rows that were compared.
        pairs, constraints: of these, numbered 0 to n - 1; owners do not count but for confirmed rows.
    """
    count = len(people.names)
    confirmed = np.flatnonzero(people.confirmed & ~is_none(people.names))
    owners = np.full(count, -1)
    owners[confirmed] = np.unique(people.names[confirmed].astype(str), return_inverse=True)[1]
    of_all = Constraints(rows[constraints.together], rows[constraints.apart], owners)
    numbered = SimilarPairs(rows[pairs.first], rows[pairs.second], pairs.value)
    compared = ComparedRows(decided.keys, people.keys, numbered, of_all, least)
    board = PeopleBoard(compared, people.names, decided.links)
    board.settle(decided.decisions)
    return board
