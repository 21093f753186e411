"""What answers are worth: `python benchmarks/galleries/answers.py [--features FILE] [--answers N] [--quick] [--json FILE]`.

A person answers N questions about who is who, simulated by the labels of FILE (as for benchmarks/galleries/identities.py; without
it, embeddings of random people are drawn): the questions that the page asks, in its order, and as many about pairs of similar
rows drawn at random. Groups are compared with the pids before and after. The last line is a bound: as many joins and splits, chosen by
the labels themselves, each the one that improves F the most; a split takes all rows of a person out of a group.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.benchmarks.galleries.identities import Labelled, make_gallery, random_people, read
from vitreid.common.text import percent, table
from vitreid.evaluation.clustering.cluster_figures import ClusteringFigures, compare_with_labels, harmonic_mean
from vitreid.gallery.identities.decisions.decided_links import ContradictionError, DecidedLinks
from vitreid.gallery.identities.decisions.people_board import PeopleBoard
from vitreid.gallery.identities.decisions.question_queue import QuestionQueue
from vitreid.gallery.identities.group_people import Grouping, group_people
from vitreid.gallery.keeping.decision_file import DIFFERENT, SAME, Decision


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "1,000 random rows and 20 answers: some seconds", "of the random people and questions")
    add = parser.add_argument
    add("--features", metavar="FILE", type=Path, help="labelled embeddings; default: random people")
    add("--answers", metavar="N", type=int, default=200, help="questions asked")
    add("--rows", metavar="N", type=int, default=20_000, help="random rows without --features")
    add("--folder", metavar="DIR", type=Path, help="for the gallery, removed at the end")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print, and return what goes into the JSON file."""
    report = start_report(args, "cpu")
    rows, answers = (1000, 20) if args.quick else (args.rows, args.answers)
    data = read(args.features) if args.features else random_people(rows, args.seed, spread=1.1)
    own = np.array([f"alone {i}" if pid == "0" else pid for i, pid in enumerate(data.pids)])
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-", dir=args.folder) as folder:
        trial = AnswerTrial(Path(folder) / "G", data, own)
    found = {"before": compare_with_labels(own, trial.new_board().group)}
    report["asked"], found[f"{answers} questions of the page"] = trial.asked(answers)
    report["random"], found[f"{answers} random questions"] = trial.random(answers, args.seed)
    found[f"{answers} best joins and splits"] = compare_with_labels(own, best_changes(own, trial.start, answers))
    head = ("", "precision", "recall", "F", "people found", "true")
    print(table([head, *((name, *cells(one)) for name, one in found.items())]))
    print(*(f"{name}: {report[name]}" for name in ("asked", "random")), sep="\n")
    report["figures"] = {name: {**vars(one), "f1": one.f1} for name, one in found.items()}
    return save(args, report)


def cells(one: ClusteringFigures) -> tuple[str, ...]:
    """Return the cells of a line of the table."""
    return (*map(percent, (one.precision, one.recall, one.f1)), str(one.num_found), str(one.num_true))


class AnswerTrial:
    """A grouped gallery and a person who knows the labels.

    Args:
        path: of the gallery, which is made here.
        data, own: rows, and their true people (N,).
    """

    def __init__(self, path: Path, data: Labelled, own: np.ndarray) -> None:
        gallery = make_gallery(path, data, has_pids=False)
        self.own = own
        self.found: Grouping = group_people(gallery, to_decide=True)
        assert self.found.board is not None
        self.keys = self.found.board.rows.keys
        self.start = self.found.board.group

    def new_board(self) -> PeopleBoard:
        """Return the groups as they were found."""
        board = self.found.board
        assert board is not None
        return PeopleBoard(board.rows, self.found.after.names, DecidedLinks())

    def asked(self, count: int) -> tuple[dict[str, Any], ClusteringFigures]:
        """Answer the questions of the page."""
        board = self.new_board()
        begin = time.monotonic()
        queue = QuestionQueue(board)
        seconds, kinds = {"first question": time.monotonic() - begin}, Counter[str]()
        slowest = 0.0
        for _ in range(count):
            begin = time.monotonic()
            questions = queue.next(1)
            if not questions:
                break
            one, other = questions[0].one, questions[0].other
            decision = self._answer(one, other)
            kinds[f"{decision.kind}, {'halves' if questions[0].are_halves else 'groups'}"] += 1
            self._decide(board, decision, queue)
            slowest = max(slowest, time.monotonic() - begin)
        report = {**{f"{name}, s": value for name, value in seconds.items()}, "slowest answer, s": slowest, **kinds}
        return report, compare_with_labels(self.own, board.group)

    def random(self, count: int, seed: int) -> tuple[dict[str, Any], ClusteringFigures]:
        """Answer questions about similar rows that are drawn at random."""
        board, rng, kinds = self.new_board(), np.random.default_rng(seed), Counter[str]()
        pairs = board.rows.pairs
        for pair in rng.choice(len(pairs.value), min(count, len(pairs.value)), replace=False):
            decision = self._answer(int(pairs.first[pair]), int(pairs.second[pair]))
            kinds[decision.kind] += 1
            self._decide(board, decision, None)
        return dict(kinds), compare_with_labels(self.own, board.group)

    def _answer(self, one: int, other: int) -> Decision:
        kind = SAME if self.own[one] == self.own[other] else DIFFERENT
        return Decision(kind, "labels", (self.keys[one], self.keys[other]))

    def _decide(self, board: PeopleBoard, decision: Decision, queue: QuestionQueue | None) -> None:
        try:
            board.links.check(decision)
        except ContradictionError:  # the labels never contradict each other, copies of an image may
            return
        if queue is not None:
            queue.learn(decision)
        board.links.add([decision])
        board.apply(decision)


def best_changes(own: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the groups (N,) after the joins and splits, one at a time, that raise F the most."""
    person = np.unique(own, return_inverse=True)[1]
    groups = groups.copy()
    relevant = int((np.bincount(person) * (np.bincount(person) - 1) // 2).sum())
    for _ in range(count):
        cells = Counter(zip(groups.tolist(), person.tolist(), strict=True))
        sizes = Counter(groups.tolist())
        right = sum(n * (n - 1) // 2 for n in cells.values())
        retrieved = sum(n * (n - 1) // 2 for n in sizes.values())
        best, change = 0.0, None
        of_person: dict[int, list[int]] = {}
        for (group, who), n in cells.items():
            of_person.setdefault(who, []).append(group)
            cut = retrieved - n * (sizes[group] - n)
            if n < sizes[group] and (f := _f(right, cut, relevant)) > best:
                best, change = f, ("split", group, who)
        for who, some in of_person.items():
            largest = sorted(some, key=lambda group: -cells[group, who])[:3]
            for one, other in ((a, b) for a in largest for b in largest if a < b):
                gain = sum(n * cells[other, p] for p, n in _people(cells, one, person, groups).items())
                if (f := _f(right + gain, retrieved + sizes[one] * sizes[other], relevant)) > best:
                    best, change = f, ("join", one, other)
        if change is None or best <= _f(right, retrieved, relevant):
            break
        kind, one, other = change
        if kind == "join":
            groups[groups == other] = one
        else:
            groups[(groups == one) & (person == other)] = groups.max() + 1
    return groups


def _people(cells: Counter[tuple[int, int]], group: int, person: np.ndarray, groups: np.ndarray) -> dict[int, int]:
    return {int(who): cells[group, int(who)] for who in np.unique(person[groups == group])}


def _f(right: int, retrieved: int, relevant: int) -> float:
    return harmonic_mean(right / retrieved if retrieved else 0.0, right / relevant if relevant else 0.0)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return command(get_parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
