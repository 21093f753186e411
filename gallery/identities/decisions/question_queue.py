"""The next questions: pairs of rows whose answer is expected to change the most."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ...keeping.decision_file import DIFFERENT, MERGE, SAME, Decision
from .people_board import PeopleBoard
from .what_to_ask import MOST_HALVED, Beliefs, Halving, expected_change, halvings

LEAST_CHANGE = 0.5  # pairs of rows; what is expected to change less is not asked
BASE = 2**32  # above any number of a group
LOOKED_AT = 500  # best candidates, of which those that are known or were asked are left out


@dataclass(frozen=True, eq=False)
class Question:
    """Do two rows show one person?

    Args:
        one, other: rows of the board, the most typical ones of their sides.
        sides: rows (n,) and (m,) of the two groups, or halves.
        are_halves: they are in one group, which "different" would part; otherwise "same" would join their groups.
        mean: mean similarity of the two sides.
        probability: that they show one person.
        change: expected number of pairs of rows that the answer joins or parts.
    """

    one: int
    other: int
    sides: tuple[np.ndarray, np.ndarray]
    are_halves: bool
    mean: float
    probability: float
    change: float


@dataclass(eq=False)
class _Joins:
    """Pairs of groups with similar rows: groups (P,) first < second, and the sum of their similarities (P,)."""

    first: np.ndarray
    second: np.ndarray
    total: np.ndarray


class QuestionQueue:
    """Chooses among all pairs of similar groups, and all halves of groups.

    Args:
        board: the groups; changes of it are followed.
        beliefs: what similarities mean.
    """

    def __init__(self, board: PeopleBoard, beliefs: Beliefs | None = None) -> None:
        self.board, self.beliefs = board, beliefs or Beliefs(board.rows.least)
        self._halvings: dict[int, list[Halving]] = {}
        one, other, value = board.rows.pairs
        first, second = board.group[one], board.group[other]
        keys, inverse = np.unique(_pair_keys(first, second)[first != second], return_inverse=True)
        self._joins = _Joins(keys // BASE, keys % BASE, np.bincount(inverse, value[first != second], len(keys)))
        for group in board.members:
            self._halve(group)
        board.changed.clear()

    def _halve(self, group: int) -> None:
        members = self.board.members[group]
        if 1 < len(members) <= MOST_HALVED:
            self._halvings[group] = halvings(self.board.similarity(members))

    def _follow(self) -> None:
        """Update what belongs to groups that have changed."""
        board, changed = self.board, self.board.changed
        if not changed:
            return
        gone = np.array(sorted(changed))
        joins = self._joins
        stays = ~(np.isin(joins.first, gone) | np.isin(joins.second, gone))
        parts = [(joins.first[stays], joins.second[stays], joins.total[stays])]
        for group in sorted(changed):
            self._halvings.pop(group, None)
            if group not in board.members:
                continue
            self._halve(group)
            near = board.matrix[board.members[group]]
            others, inverse = np.unique(board.group[near.indices], return_inverse=True)
            total = np.bincount(inverse, near.data, len(others))
            chosen = (others != group) & ~(np.isin(others, gone) & (others < group))  # each pair of changed groups once
            ends = np.full(int(chosen.sum()), group)
            parts.append((np.minimum(ends, others[chosen]), np.maximum(ends, others[chosen]), total[chosen]))
        self._joins = _Joins(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        changed.clear()

    def next(self, count: int, asked: Collection[frozenset[str]] = ()) -> list[Question]:
        """Return up to `count` questions that are worth asking, the one with the largest expected change first.

        Pairs whose answers contradicted each other come before all others. Of equal changes the pair nearest to the threshold comes first.

        Args:
            asked: pairs of keys that are left out.
        """
        self._follow()
        return list(islice((one for one in self._ranked() if self._keys(one) not in asked), count))

    def _keys(self, question: Question) -> frozenset[str]:
        keys = self.board.rows.keys
        return frozenset((keys[question.one], keys[question.other]))

    def _ranked(self) -> Iterator[Question]:
        for pair in self.board.links.asked_again():
            places = [self.board.places([key]) for key in pair]
            if all(len(some) for some in places):
                one, other = (int(some[0]) for some in places)
                together = bool(self.board.group[one] == self.board.group[other])
                yield Question(one, other, (places[0][:1], places[1][:1]), together, 0.0, 0.5, 0.0)
        joins, halves = self._best_joins(), self._best_halves()
        candidates = sorted([*joins, *halves], key=lambda item: (-item[0], abs(item[2] - self.beliefs.least)))
        given: set[int] = set()
        for change, probability, mean, groups, part in candidates:
            if (
                change >= LEAST_CHANGE
                and given.isdisjoint(groups)
                and (part is None or self._may_part(part, groups[0]))
            ):
                given |= set(groups)  # one question per group, since the answer changes the others
                yield self._question(change, probability, mean, groups, part)

    def _best_joins(self) -> list[tuple[float, float, float, tuple[int, ...], Halving | None]]:
        joins = self._joins
        if not len(joins.first):
            return []
        sizes = np.zeros(int(joins.second.max()) + 1, np.int64)
        for group in np.unique(np.concatenate([joins.first, joins.second])).tolist():
            sizes[group] = len(self.board.members[group])
        num_one, num_other = sizes[joins.first], sizes[joins.second]
        mean = joins.total / (num_one * num_other)
        likely = self.beliefs.probability(mean, are_halves=False)
        change = expected_change(likely, num_one, num_other)
        change[np.isin(joins.first * BASE + joins.second, self._closed())] = 0
        best = np.argsort(-change, kind="stable")[:LOOKED_AT]
        return [
            (float(change[i]), float(likely[i]), float(mean[i]), (int(joins.first[i]), int(joins.second[i])), None)
            for i in best[change[best] > 0]
        ]

    def _closed(self) -> np.ndarray:
        """Return the pairs of groups that are not asked about: known to differ, or nobody could say."""
        board, group = self.board, self.board.group
        constraints = board.rows.constraints
        pairs = [_pair_keys(group[constraints.apart[:, 0]], group[constraints.apart[:, 1]])]
        unsure = [([one], [other]) for one, other in board.links.unsure]
        for sides in [*board.links.differing(), *unsure]:
            one, other = (board.places(keys)[:1] for keys in sides)
            if len(one) and len(other):
                pairs.append(_pair_keys(group[one], group[other]))
        owned = np.flatnonzero(constraints.owners >= 0)
        if len(owned):
            owner = dict(zip(group[owned].tolist(), constraints.owners[owned].tolist(), strict=True))
            owners = np.full(board.group.max(initial=-1) + 1, -1)
            owners[list(owner)] = list(owner.values())
            one, other = self._joins.first, self._joins.second
            both = (owners[one] >= 0) & (owners[other] >= 0) & (owners[one] != owners[other])
            pairs.append(one[both] * BASE + other[both])
        return np.unique(np.concatenate(pairs))

    def _best_halves(self) -> list[tuple[float, float, float, tuple[int, ...], Halving | None]]:
        groups, parts = [], []
        for group, steps in self._halvings.items():
            groups += [group] * len(steps)
            parts += steps
        if not parts:
            return []
        sizes = np.array([(len(part.one), len(part.other)) for part in parts])
        mean = np.array([part.mean for part in parts])
        likely = self.beliefs.probability(mean, are_halves=True)
        change = expected_change(1 - likely, sizes[:, 0], sizes[:, 1])
        best = np.argsort(-change, kind="stable")[:LOOKED_AT]
        return [(float(change[i]), float(likely[i]), float(mean[i]), (groups[i],), parts[i]) for i in best]

    def _may_part(self, part: Halving, group: int) -> bool:
        """Return whether nothing is known of the two halves."""
        board, members = self.board, self.board.members[group]
        one, other = ({board.rows.keys[members[place]] for place in side} for side in part[:2])
        links = board.links
        if any(not one.isdisjoint(keys) and not other.isdisjoint(keys) for keys in links.people()):
            return False
        return not any((a in one and b in other) or (a in other and b in one) for a, b in links.unsure)

    def _question(
        self, change: float, probability: float, mean: float, groups: tuple[int, ...], part: Halving | None
    ) -> Question:
        members = self.board.members
        sides = (
            [members[group] for group in groups] if part is None else [members[groups[0]][side] for side in part[:2]]
        )
        one, other = (self.most_typical(side) for side in sides)
        return Question(one, other, (sides[0], sides[1]), part is not None, mean, probability, change)

    def doubt(self) -> dict[int, float]:
        """Return the probability, for groups of two rows and more, that they show two people: that of the worst two halves."""
        self._follow()
        worst = {group: min(part.mean for part in steps) for group, steps in self._halvings.items()}
        likely = self.beliefs.probability(np.array(list(worst.values()), float), are_halves=True)
        return dict(zip(worst, (1 - likely).tolist(), strict=True))

    def near(self, group: int, count: int) -> list[tuple[int, float]]:
        """Return the groups most like one, and their mean similarities, the most similar first."""
        self._follow()
        joins = self._joins
        own = np.flatnonzero((joins.first == group) | (joins.second == group))
        others = np.where(joins.first[own] == group, joins.second[own], joins.first[own])
        sizes = np.array([len(self.board.members[other]) for other in others.tolist()])
        mean = joins.total[own] / np.maximum(sizes * len(self.board.members[group]), 1)
        order = np.argsort(-mean, kind="stable")[:count]
        return list(zip(others[order].tolist(), mean[order].tolist(), strict=True))

    def most_typical(self, members: np.ndarray) -> int:
        """Return the row with the largest sum of similarities to the others, the first of several."""
        return int(members[np.asarray(self.board.matrix[members][:, members].sum(1)).argmax()])

    def learn(self, decision: Decision) -> None:
        """Take an answer into account that the board does not have yet."""
        if decision.kind not in (SAME, MERGE, DIFFERENT) or len(decision.rows) != 2:
            return
        self._follow()
        places = [self.board.places([key]) for key in decision.rows]
        if not all(len(some) for some in places):
            return
        one, other = (int(some[0]) for some in places)
        first, second = (int(self.board.group[place]) for place in (one, other))
        if first == second:
            members = self.board.members[first]
            inner = {place: i for i, place in enumerate(members.tolist())}
            for part in self._halvings.get(first, []):
                if (inner[one] in part.one and inner[other] in part.other) or (
                    inner[other] in part.one and inner[one] in part.other
                ):
                    self.beliefs.learn(part.mean, True, decision.kind != DIFFERENT)
            return
        total = self.board.matrix[self.board.members[first]][:, self.board.members[second]].sum()
        num_pairs = len(self.board.members[first]) * len(self.board.members[second])
        self.beliefs.learn(float(total / num_pairs), False, decision.kind != DIFFERENT)


def _pair_keys(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a number (n,) for each pair of groups, whichever comes first."""
    return np.minimum(first, second) * BASE + np.maximum(first, second)
