"""The people of a gallery while somebody decides: groups that keep to the decisions, changed only where a decision changes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from ....evaluation.clustering.average_linkage import Constraints, average_linkage
from ....evaluation.clustering.jaccard_graph import SimilarPairs
from ...keeping.decision_file import DIFFERENT, ENROL, MERGE, MOVE, NAME, SAME, SPLIT, UNDO, Decision
from ..person_columns import new_name
from .decided_links import DecidedLinks, in_force


@dataclass(frozen=True, eq=False)
class ComparedRows:
    """Rows (N) of a gallery, as they were compared.

    Args:
        keys: of the rows, as decisions name them.
        name_keys: (N,) bytes that new people are named after.
        pairs: similarities of pairs of the rows.
        constraints: what the records say.
        least: mean similarity of two groups that merge.
    """

    keys: Sequence[str]
    name_keys: np.ndarray
    pairs: SimilarPairs
    constraints: Constraints
    least: float


@dataclass(frozen=True, eq=False)
class _Step:
    """What a decision changed: the groups before, as rows and name, and the numbers of those that it made."""

    before: Sequence[tuple[np.ndarray, str | None]]
    made: Sequence[int]


class PeopleBoard:
    """The groups of the rows. An answer joins or parts the groups that it is about; the others stay.

    Args:
        rows: that are grouped.
        names: (N,) person of each row, None = alone.
        links: what was decided; `settle` applies it.
    """

    def __init__(self, rows: ComparedRows, names: np.ndarray, links: DecidedLinks) -> None:
        self.rows, self.links, count = rows, links, len(rows.keys)
        one, other, value = rows.pairs
        ends, starts = np.concatenate([one, other]), np.concatenate([other, one])
        doubled = np.concatenate([value, value]).astype(np.float32)
        self.matrix = sparse.coo_array((doubled, (ends, starts)), shape=(count, count)).tocsr()
        self._places: dict[str, list[int]] = {}
        for place, key in enumerate(rows.keys):
            self._places.setdefault(key, []).append(place)
        labels = [name if name is not None else place for place, name in enumerate(names.tolist())]
        number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        self.group = np.array([number[label] for label in labels], np.int64)
        order = np.argsort(self.group, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(self.group[order])) + 1) if count else []
        self.members: dict[int, np.ndarray] = dict(enumerate(parts))
        self.names: dict[int, str] = {i: label for label, i in number.items() if isinstance(label, str)}
        self._next = len(parts)
        self.changed: set[int] = set()  # groups that are new, or are gone, since the set was emptied
        self._steps: dict[str, _Step] = {}  # of decisions that changed groups, by their ids

    # ---- what is there

    def places(self, keys: Iterable[str]) -> np.ndarray:
        """Return the rows with these keys, ascending; keys of rows that are gone are left out."""
        return np.array(sorted({place for key in keys for place in self._places.get(key, ())}), np.int64)

    def groups_of(self, keys: Iterable[str]) -> list[int]:
        """Return the groups of the rows with these keys."""
        return np.unique(self.group[self.places(keys)]).tolist()

    def row_names(self) -> np.ndarray:
        """Return the person (N,) of each row; None = alone and never named."""
        found = np.full(len(self.group), None, object)
        for group, name in self.names.items():
            found[self.members[group]] = name
        return found

    def similarity(self, members: np.ndarray) -> np.ndarray:
        """Return the similarities (n, n) of some rows."""
        return self.matrix[members][:, members].toarray()

    # ---- decisions

    def settle(self, decisions: Sequence[Decision]) -> None:
        """Make the groups keep to the links; parts of groups that decisions which were taken back had joined are free again."""
        standing = {one.id for one in in_force(decisions)}
        aside = {one.decision.id for one in self.links.contradictions}
        for one in decisions:
            if one.kind != UNDO and one.id not in standing:
                self.take_back(one)
        for one in decisions:
            if one.id in standing and one.id not in aside:
                self.apply(one, is_new=False)

    def apply(self, decision: Decision, is_new: bool = True) -> None:
        """Change the groups as a decision says, which the links have; nothing changes if they are so already.

        Args:
            is_new: False = groups that are so already may be so because of it: `take_back` then groups their rows again.
        """
        start = self._next
        was = {group: (self.members[group], self.names.get(group)) for group in self.groups_of(decision.keys)}
        self._change(decision)
        gone = [one for group, one in was.items() if group not in self.members]
        if is_new or self._next > start:
            self._steps[decision.id] = _Step(gone, range(start, self._next))

    def _change(self, decision: Decision) -> None:
        kind = decision.kind
        if kind in (SAME, MERGE, ENROL):
            self._join(self.groups_of(decision.rows))
        elif kind == DIFFERENT:
            if len(self.groups_of(decision.rows)) == 1 and len(self.places(decision.rows)) > 1:
                self._regroup(self.places(decision.rows))
        elif kind == SPLIT:
            self._take_out(self.places(decision.rows), self.places(decision.others))
        elif kind == MOVE:
            self._move(self.places(decision.rows), self.places([str(decision.to)]))
        if kind in (NAME, ENROL):
            for group in self.groups_of(decision.rows):
                self._give_name(group, str(decision.name))

    def take_back(self, decision: Decision) -> None:
        """Free what a decision did that an undo has taken back; the links no longer have it.

        The groups are those before it, unless they have changed since, or another board did it: then their rows are grouped again.
        """
        if decision.kind in (NAME, ENROL):
            for group in self.groups_of(decision.rows):
                if self.names.get(group) == decision.name:
                    self._give_name(group, self._given_name(self.members[group]) or self._new_name(group))
        if decision.kind == NAME:
            return
        step = self._steps.pop(decision.id, None)
        if step is not None and all(group in self.members for group in step.made):
            self._restore(step)
            return
        places = self.places(decision.keys)
        if len(places) and (decision.kind in (SPLIT, MOVE, DIFFERENT) or len(np.unique(self.group[places])) == 1):
            self._regroup(places)

    def _restore(self, step: _Step) -> None:
        """Put the groups before a step back, which nothing has changed since, as far as the links allow."""
        for group in step.made:
            del self.members[group]
            self.names.pop(group, None)
        for rows, name in step.before:
            self.members[self._next], self.group[rows] = rows, self._next
            if name is not None:
                self.names[self._next] = name
            self.changed.add(self._next)
            self._next += 1
        self.changed |= set(step.made)
        here = {self.rows.keys[place] for rows, _ in step.before for place in rows.tolist()}
        for keys in self.links.people():
            if not here.isdisjoint(keys):
                self._join(self.groups_of(keys))
        for one, other in self.links.differing():
            groups = set(self.groups_of(one)) & set(self.groups_of(other))
            if groups and not here.isdisjoint(one):
                self._regroup(self.places([*one, *other]))

    def _join(self, groups: Sequence[int]) -> None:
        if len(groups) < 2:
            return
        members = np.concatenate([self.members[group] for group in groups])
        if self._parted(members):
            self._regroup(members)
        else:
            self._replace(groups, [members])

    def _parted(self, members: np.ndarray) -> bool:
        """Return whether some of the rows were said to differ."""
        here = {self.rows.keys[place] for place in members.tolist()}
        return any(not here.isdisjoint(one) and not here.isdisjoint(other) for one, other in self.links.differing())

    def _take_out(self, rows: np.ndarray, others: np.ndarray) -> None:
        groups = np.unique(self.group[rows]).tolist()
        if not groups or (len(groups) == 1 and groups[0] not in self.group[others]):
            return
        rest = [np.setdiff1d(self.members[group], rows) for group in groups]
        self._replace(groups, [*(part for part in rest if len(part)), rows])

    def _move(self, rows: np.ndarray, to: np.ndarray) -> None:
        if not len(rows) or not len(to):
            return
        target = int(self.group[to[0]])
        groups = [group for group in np.unique(self.group[rows]).tolist() if group != target]
        if not groups:
            return
        rest = [np.setdiff1d(self.members[group], rows) for group in groups]
        joined = np.union1d(self.members[target], rows)
        self._replace([target, *groups], [joined, *(part for part in rest if len(part))], keep=target)

    def _regroup(self, places: np.ndarray) -> None:
        """Group the rows of some rows' groups again, by their similarities and all links."""
        groups = np.unique(self.group[places]).tolist()
        members = np.sort(np.concatenate([self.members[group] for group in groups]))
        labels = self._linked(members)
        order = np.argsort(labels, kind="stable")
        parts = np.split(members[order], np.flatnonzero(np.diff(labels[order])) + 1)
        before = [self.members[group].tolist() for group in groups]
        if sorted(part.tolist() for part in parts) != sorted(sorted(rows) for rows in before):
            self._replace(groups, parts)

    def _linked(self, members: np.ndarray) -> np.ndarray:
        """Return the group (n,) of some rows by average linkage; then people of whom several rows are known are put together."""
        place = {self.rows.keys[row]: i for i, row in enumerate(members.tolist())}
        people, apart = links_among(self.links, place)
        pairs, count = self._pairs_among(members), len(members)
        records = without_parted(self.rows.constraints.among(members), apart)
        first = replace(records, apart=np.concatenate([records.apart, apart]))
        labels = average_linkage(count, pairs, self.rows.least, first)
        joined = united(labels, people, apart)
        if joined is not None:
            return joined
        together = np.array([(rows[0], row) for rows in people for row in rows[1:]], np.int64).reshape(-1, 2)
        hard = Constraints(together, first.apart, np.full(count, -1))  # the records' links could contradict these
        return average_linkage(count, pairs, self.rows.least, hard)

    def _pairs_among(self, members: np.ndarray) -> SimilarPairs:
        found = sparse.triu(self.matrix[members][:, members], 1, format="coo")
        one, other = found.coords
        return SimilarPairs(one.astype(np.int32), other.astype(np.int32), found.data)

    # ---- groups and their names

    def _replace(self, old: Sequence[int], parts: Sequence[np.ndarray], keep: int | None = None) -> None:
        """Put other groups in the place of some.

        A name goes to the part with most of its rows; a name that somebody gave goes with the row that it was given to.
        """
        was = {group: (self.names.pop(group, None), self.members.pop(group)) for group in old}
        sizes = [
            (len(np.intersect1d(rows, part)), -i, name)
            for name, rows in was.values()
            if name is not None
            for i, part in enumerate(parts)
        ]
        names: dict[int, str] = {}
        if keep is not None and was[keep][0] is not None:
            names[0] = str(was[keep][0])
        for shared, i, name in sorted(sizes, reverse=True):
            if shared and -i not in names and name not in names.values():
                names[-i] = name
        made = []
        for part in parts:
            self.members[self._next], self.group[part] = np.sort(part), self._next
            made.append(self._next)
            self._next += 1
        given = {i: found for i, group in enumerate(made) if (found := self._given_name(self.members[group]))}
        for i, group in enumerate(made):
            if chosen := given.get(i) or (names.get(i) if names.get(i) not in given.values() else None):
                self.names[group] = chosen
        for group in made:
            if group not in self.names:
                self.names[group] = self._new_name(group)
        self.changed |= {*old, *made}

    def _given_name(self, members: np.ndarray) -> str | None:
        """Return the name that was given last to one of some rows, None = none."""
        if not self.links.names:
            return None
        here = {self.rows.keys[place] for place in members.tolist()}
        return next((name for key, name in reversed(self.links.names.items()) if key in here), None)

    def _new_name(self, group: int) -> str:
        return new_name(self.rows.name_keys[self.members[group][0]], set(self.names.values()))

    def _give_name(self, group: int, name: str) -> None:
        if self.names.get(group) != name:
            self.names[group] = name
            self.changed.add(group)


def links_among(links: DecidedLinks, place: dict[str, int]) -> tuple[list[list[int]], np.ndarray]:
    """Return what is decided of some rows.

    Args:
        place: key -> number of the row.
    Returns:
        The rows of each person of whom two and more are there; pairs (C, 2) of rows that differ, one for each two people.
    """
    people = [[place[key] for key in keys if key in place] for keys in links.people()]
    pairs = []
    for one, other in links.differing():
        ends = [next((place[key] for key in keys if key in place), None) for keys in (one, other)]
        if None not in ends:
            pairs.append(ends)
    return [rows for rows in people if len(rows) > 1], np.array(pairs, np.int64).reshape(-1, 2)


def without_parted(constraints: Constraints, apart: np.ndarray) -> Constraints:
    """Return the constraints without what joins rows that were said to differ, as a split of a track does."""
    parted = np.zeros(len(constraints.owners), bool)
    parted[apart.reshape(-1)] = True
    return replace(constraints, together=constraints.together[~parted[constraints.together].any(1)])


def united(labels: np.ndarray, people: Sequence[Sequence[int]], apart: np.ndarray) -> np.ndarray | None:
    """Return the labels (n,) with the groups of each person's rows united; None if rows that differ would get together."""
    labels = labels.copy()
    for rows in people:
        labels[np.isin(labels, labels[rows])] = labels[rows[0]]
    return None if (labels[apart[:, 0]] == labels[apart[:, 1]]).any() else labels
