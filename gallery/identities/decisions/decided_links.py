"""Decisions -> pairs of rows that must, and that cannot, show one person; contradictions among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ....common.errors import UserError
from ...keeping.decision_file import DIFFERENT, ENROL, MERGE, MOVE, NAME, SAME, SPLIT, UNDO, UNSURE, Decision


class ContradictionError(UserError):
    """A decision that contradicts earlier ones.

    Args:
        decision: the later one.
        earlier: the decisions from which the opposite follows.
        what: the contradiction in words.
    """

    def __init__(self, decision: Decision, earlier: Sequence[Decision], what: str) -> None:
        self.decision, self.earlier, self._what = decision, tuple(earlier), what
        listed = "; ".join(f"{one.kind!r} by {one.who} at {one.time} ({one.id[:8]})" for one in self.earlier)
        super().__init__(f"{what}: {listed}; undo one of these first" if listed else what)

    def __reduce__(self) -> tuple[type[ContradictionError], tuple[Decision, tuple[Decision, ...], str]]:
        """Return how another process makes it."""
        return type(self), (self.decision, self.earlier, self._what)


def in_force(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the decisions that no undo has taken back, without the undos; an undo can be undone, too."""
    undone: set[str] = set()
    kept = []
    for one in reversed(decisions):
        if one.id in undone:
            continue
        if one.kind == UNDO:
            undone.add(str(one.of))
        else:
            kept.append(one)
    return kept[::-1]


@dataclass(frozen=True)
class _Link:
    """A pair of rows, and the decision that it is from."""

    one: str
    other: str
    decision: Decision


class DecidedLinks:
    """What follows from decisions, taken in their order; one that contradicts earlier ones is set aside.

    Rows of one confirmed name are together, rows of two confirmed names are apart.

    Args:
        decisions: all there are.
        confirmed: key of a row -> name, of rows that were confirmed in another way.
    """

    def __init__(self, decisions: Sequence[Decision] = (), confirmed: Mapping[str, str] | None = None) -> None:
        self.together: list[_Link] = []
        self.apart: list[_Link] = []
        self.unsure: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}  # key of a row -> name that its person was given, the latest last
        self.contradictions: list[ContradictionError] = []
        self.num_decisions = 0  # in force, those that were set aside among them
        self._leader: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}  # leader -> rows of its person, if there are two or more
        self._near: dict[str, list[_Link]] = {}  # links of a row to others of its person
        self._apart: dict[str, dict[str, _Link]] = {}  # leader -> leader of another person -> why
        self._owner: dict[str, str] = {}  # leader -> confirmed name
        self._settled: set[frozenset[str]] = set()  # pairs that were answered after a contradiction
        first: dict[str, str] = {}
        for key, name in (confirmed or {}).items():
            self._owner[self._find(key)] = name
            if name in first:
                self._unite(_Link(first[name], key, Decision(SAME, "confirm", (first[name], key), id="0" * 32)))
            first.setdefault(name, key)
        self.add(in_force(decisions))

    def add(self, decisions: Iterable[Decision]) -> None:
        """Add later decisions that are in force."""
        for one in decisions:
            self.num_decisions += 1
            try:
                self.check(one)
            except ContradictionError as error:
                self.contradictions.append(error)
                continue
            self._settle(one)
            if len(one.rows) == 2 and self.contradictions:
                self._settled.add(frozenset(one.rows))

    def check(self, decision: Decision) -> None:
        """Raise ContradictionError if a decision contradicts those there are; for `add`, and before one is written."""
        joined: dict[str, set[str]] = {}  # leader -> all leaders that this decision joins with it
        for one, other in _together(decision):
            first, second = (joined.get(leader, {leader}) for leader in (self._find(one), self._find(other)))
            if first is second or first == second:
                continue
            for leader in second:
                for far in first & self._apart.get(leader, {}).keys():
                    why = self._why(self._apart[leader][far], one, other)
                    raise ContradictionError(decision, why, "these rows were said to differ")
            owners = {self._owner[leader] for leader in (*first, *second) if leader in self._owner}
            if len(owners) > 1:
                names = " and ".join(sorted(owners))
                what = f"these rows were confirmed as {names}; open one of them first, with `confirm` and None"
                raise ContradictionError(decision, (), what)
            first |= second
            joined.update(dict.fromkeys(first, first))
        for one, other in _apart(decision):
            leader, other_leader = self._find(one), self._find(other)
            if leader == other_leader or other_leader in joined.get(leader, ()):
                raise ContradictionError(decision, self.chain(one, other), "these rows were said to show one person")

    def _why(self, link: _Link, one: str, other: str) -> list[Decision]:
        """Return the decisions from which it follows that two rows differ."""
        ends = (one, other) if self.are_together(one, link.one) else (other, one)
        found = [link.decision, *self.chain(ends[0], link.one), *self.chain(ends[1], link.other)]
        return list(dict.fromkeys(found))

    def chain(self, one: str, other: str) -> list[Decision]:
        """Return the decisions that lead from a row to another of its person, the fewest; none if there is no way."""
        came: dict[str, _Link | None] = {one: None}
        todo = deque([one])
        while todo and other not in came:
            here = todo.popleft()
            for link in self._near.get(here, []):
                far = link.other if link.one == here else link.one
                if far not in came:
                    came[far] = link
                    todo.append(far)
        found = []
        here = other
        while last := came.get(here):
            found.append(last.decision)
            here = last.one if last.other == here else last.other
        return list(dict.fromkeys(found))

    def _settle(self, decision: Decision) -> None:
        for one, other in _together(decision):
            link = _Link(one, other, decision)
            self.together.append(link)
            self._unite(link)
        for one, other in _apart(decision):
            link = _Link(one, other, decision)
            self.apart.append(link)
            first, second = self._find(one), self._find(other)
            self._apart.setdefault(first, {})[second] = link
            self._apart.setdefault(second, {})[first] = link
        if decision.kind == UNSURE:
            self.unsure.append((decision.rows[0], decision.rows[1]))
        if decision.kind in (NAME, ENROL):
            self.names.pop(decision.rows[0], None)
            self.names[decision.rows[0]] = str(decision.name)

    def _find(self, key: str) -> str:
        path = []
        while (leader := self._leader.get(key, key)) != key:
            path.append(key)
            key = leader
        for one in path:
            self._leader[one] = key
        return key

    def _unite(self, link: _Link) -> None:
        for key in (link.one, link.other):
            self._near.setdefault(key, []).append(link)
        first, second = self._find(link.one), self._find(link.other)
        if first == second:
            return
        one, other = self._members.pop(first, [first]), self._members.pop(second, [second])
        if len(one) < len(other):
            first, second = second, first
        self._leader[second] = first
        self._members[first] = one + other
        if second in self._owner:
            self._owner[first] = self._owner.pop(second)
        for far, why in self._apart.pop(second, {}).items():
            del self._apart[far][second]
            self._apart[far][first] = why
            self._apart.setdefault(first, {})[far] = why

    def are_together(self, one: str, other: str) -> bool:
        """Return whether it follows that two rows show one person."""
        return self._find(one) == self._find(other)

    def are_apart(self, one: str, other: str) -> bool:
        """Return whether it follows that two rows show two people."""
        return self._find(other) in self._apart.get(self._find(one), {})

    def people(self) -> list[list[str]]:
        """Return the rows, two or more, of each person of whom several rows were said to be."""
        return list(self._members.values())

    def differing(self) -> list[tuple[list[str], list[str]]]:
        """Return the pairs of people, as their rows, that were said to differ."""
        return [
            (self._members.get(first, [first]), self._members.get(second, [second]))
            for first, others in self._apart.items()
            for second in others
            if first < second
        ]

    def asked_again(self) -> list[tuple[str, str]]:
        """Return the pairs of rows whose answer contradicted earlier ones, and that nothing has settled since."""
        pairs = [one.decision.rows for one in self.contradictions if one.decision.kind in (SAME, DIFFERENT)]
        return [
            (rows[0], rows[1])
            for rows in dict.fromkeys(pairs)
            if len(rows) == 2 and frozenset(rows) not in self._settled
        ]

    def confirmed_keys(self) -> set[str]:
        """Return the keys of the rows that were said to show the person of another row, or were given a name."""
        return {key for link in self.together for key in (link.one, link.other)} | set(self.names)


def _together(decision: Decision) -> list[tuple[str, str]]:
    """Return the pairs of rows that a decision joins."""
    rows = decision.rows
    if decision.kind in (SAME, MERGE, SPLIT, ENROL):
        return [(rows[0], row) for row in rows[1:]]
    return [(str(decision.to), row) for row in rows] if decision.kind == MOVE else []


def _apart(decision: Decision) -> list[tuple[str, str]]:
    """Return the pairs of rows that a decision separates."""
    if decision.kind == DIFFERENT:
        return [(decision.rows[0], decision.rows[1])]
    if decision.kind == SPLIT:
        return [(decision.rows[0], other) for other in decision.others]
    if decision.kind == MOVE:  # all rows are together with `to`
        return [(decision.rows[0], other) for other in decision.others]
    return []
