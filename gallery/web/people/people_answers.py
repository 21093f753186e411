"""What the requests about people are answered with, in JSON types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...identities.decisions.decided_links import in_force
from ...identities.decisions.question_queue import Question
from ...keeping.decision_file import UNDO, Decision
from .decision_table import Sitting

STACK, SIDE, LISTED = 6, 8, 12  # rows shown of a group in a list, of a side of a question, of a decision
NEAR = 5  # similar people listed with one


def summary(sitting: Sitting) -> dict[str, Any]:
    """Return the numbers of rows, people of two rows and more, and rows alone; and of decisions, which changes with each."""
    sizes = [len(rows) for rows in sitting.board.members.values()]
    return {
        "rows": sum(sizes),
        "people": sum(size > 1 for size in sizes),
        "alone": sum(size == 1 for size in sizes),
        "decisions": len(sitting.decisions),
        "threshold": None if sitting.queue is None else 1 - sitting.board.rows.least,
        "contradictions": [str(one) for one in sitting.board.links.contradictions[:LISTED]],
    }


def stacks(sitting: Sitting, offset: int, limit: int, order: str, find: str) -> dict[str, Any]:
    """Return some of the people of two rows and more, or with a given name; with `find`, all whose name contains it.

    Args:
        order: size: the largest first; name; doubt: those first whose two halves resemble each other least.
    """
    board = sitting.board
    wanted, given = find.casefold(), set(board.links.names.values())
    groups = [
        group
        for group, rows in board.members.items()
        if (
            wanted in board.names.get(group, "").casefold()
            if wanted
            else len(rows) > 1 or board.names.get(group) in given
        )
    ]
    first = {group: int(board.members[group][0]) for group in groups}
    if order == "name":
        groups.sort(key=lambda group: (board.names.get(group, "").casefold(), first[group]))
    elif order == "doubt" and sitting.queue is not None:
        doubt = sitting.queue.doubt()
        groups.sort(key=lambda group: (-doubt.get(group, 0.0), first[group]))
    else:
        groups.sort(key=lambda group: (-len(board.members[group]), first[group]))
    found = [stack(sitting, board.members[group]) for group in groups[offset : offset + limit]]
    return {"total": len(groups), "offset": offset, "people": found, "decisions": len(sitting.decisions)}


def stack(sitting: Sitting, rows: np.ndarray, shown: int = STACK, first: int | None = None) -> dict[str, Any]:
    """Return a group, or a part of one: its person, number of rows, ids of some, and cameras.

    Args:
        first: row that leads; None = the first one.
    """
    board = sitting.board
    group = int(board.group[rows[0]])
    leading = [row for row in rows[: shown + 1].tolist() if row != first][: shown - (first is not None)]
    places = leading if first is None else [first, *leading]
    return {
        "person": board.names.get(group),
        "is_named": board.names.get(group) in set(board.links.names.values()),
        "rows": len(rows),
        "ids": sitting.ids[places].tolist(),
        "cameras": len(set(sitting.cameras[rows].tolist()) - {""}),
    }


def group(sitting: Sitting, id: int, offset: int, limit: int) -> dict[str, Any]:
    """Return the rows of a row's person, the most typical first, and the people most like this one."""
    board = sitting.board
    number = int(board.group[sitting.places([id])[0]])
    rows = board.members[number]
    typical = np.asarray(board.matrix[rows][:, rows].sum(1)) if len(rows) > 1 else np.zeros(1)
    ordered = rows[np.argsort(-typical, kind="stable")]
    near = [
        {**stack(sitting, board.members[other]), "similarity": mean}
        for other, mean in (sitting.queue.near(number, NEAR) if sitting.queue is not None else [])
    ]
    decided = board.links.confirmed_keys()
    some = ordered[offset : offset + limit]
    return {
        **stack(sitting, ordered),
        "offset": offset,
        "members": [
            {
                "id": int(sitting.ids[row]),
                "camera": sitting.cameras[row] or None,
                "decided": board.rows.keys[row] in decided,
            }
            for row in some.tolist()
        ],
        "near": near,
        "decisions": len(sitting.decisions),
    }


def question(sitting: Sitting, asked: Question) -> dict[str, Any]:
    """Return a question."""
    sides = [
        stack(sitting, side, SIDE, first) for side, first in zip(asked.sides, (asked.one, asked.other), strict=True)
    ]
    return {
        "rows": [int(sitting.ids[asked.one]), int(sitting.ids[asked.other])],
        "are_together": asked.are_halves,
        "probability": asked.probability,
        "change": asked.change,
        "sides": sides,
    }


def log(sitting: Sitting, before: int | None, limit: int) -> dict[str, Any]:
    """Return the decisions, newest first.

    Args:
        before: number of a decision; only earlier ones. None = from the newest on.
    """
    decisions = sitting.decisions
    end = len(decisions) if before is None else min(before, len(decisions))
    standing = {one.id for one in in_force(decisions)}
    undone = {str(one.of) for one in decisions if one.kind == UNDO}
    aside = {one.decision.id: str(one) for one in sitting.board.links.contradictions}
    return {
        "total": len(decisions),
        "decisions": [
            {
                **entry(sitting, decisions[number]),
                "number": number,
                "undone": decisions[number].id not in standing
                if decisions[number].kind != UNDO
                else decisions[number].id in undone,
                "contradicts": aside.get(decisions[number].id),
            }
            for number in range(end - 1, max(-1, end - 1 - limit), -1)
        ],
    }


def entry(sitting: Sitting, decision: Decision) -> dict[str, Any]:
    """Return a decision: who, when, what, and ids of the first rows that are still in the gallery."""
    return {
        "id": decision.id,
        "time": decision.time,
        "who": decision.who,
        "kind": decision.kind,
        "ids": ids_of(sitting, decision.rows)[:LISTED],
        "rows": len(decision.rows),
        "to": next(iter(ids_of(sitting, [decision.to])), None) if decision.to else None,
        "name": decision.name,
        "of": decision.of,
    }


def ids_of(sitting: Sitting, keys: Sequence[str]) -> list[int]:
    """Return the id of the first row with each key; those that are gone are left out."""
    places = [sitting.board.places([key])[:1] for key in keys]
    return sitting.ids[np.concatenate([np.empty(0, np.int64), *places])].tolist()
