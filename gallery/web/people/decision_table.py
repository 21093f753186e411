"""The people of a served gallery and the decisions about them, of this server's visitors and of other programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ....common.errors import UserError
from ....evaluation.clustering.average_linkage import Constraints, in_order
from ....evaluation.clustering.cluster_figures import row_fit
from ....evaluation.clustering.jaccard_graph import SimilarPairs
from ...identities.decisions.decided_links import ContradictionError, DecidedLinks, in_force
from ...identities.decisions.people_board import ComparedRows, PeopleBoard
from ...identities.decisions.question_queue import QuestionQueue
from ...identities.group_people import Grouping, GroupingOptions, group_people
from ...identities.near_rows import AUTO
from ...identities.person_columns import People, is_none, read_people, write_people
from ...keeping.decision_file import MOST_ROWS, NAME, UNDO, Decision, DecisionFile
from ...storage.embeddings_file import READ
from ...storage.gallery import Gallery
from ..request_error import RequestError

logger = logging.getLogger(__name__)
NOT_READY = "the rows are being compared; try again in a moment"


class Sitting:
    """The people of a gallery as of one state of its rows.

    Args:
        gallery: as opened.
        found: the rows, compared; None = the groups are those of the column `person`, and there are no questions.
    """

    def __init__(self, gallery: Gallery, found: Grouping | None) -> None:
        self.state, self.ids = gallery.state, gallery.ids[gallery.is_live]
        self.file = DecisionFile(gallery.path)
        self.queue: QuestionQueue | None = None
        self.decisions: Sequence[Decision] = ()
        self.graph = None if found is None else found.graph
        if found is not None:
            assert found.board is not None
            self.people, self.board = found.before, found.board
            self.queue = QuestionQueue(self.board)
        else:
            self.people = read_people(gallery)
            self.board = _board_of_columns(gallery, self.people)
        self.confirmed = _confirmed(self.people, self.board.rows.keys)
        cameras = gallery.select(["camera"])["camera"].filter(pa.array(gallery.is_live))
        self.cameras = np.array(cameras.fill_null("").to_pylist(), object)
        self.follow()

    def follow(self) -> None:
        """Apply decisions that have come since."""
        self.take(self.file.read())

    def take(self, decisions: Sequence[Decision]) -> None:
        """Apply those of all decisions that are new; other windows and programs have made them, too."""
        new = decisions[len(self.decisions) :]
        if len(decisions) < len(self.decisions) or decisions[: len(self.decisions)] != self.decisions:
            self.decisions, new = (), decisions  # another file, or one that was restored
        if not new:
            return
        self.decisions = decisions
        if self.queue is None:
            self.board.links = DecidedLinks(decisions, self.confirmed)
            return
        if any(one.kind == UNDO for one in new) or new is decisions:
            before = {one.id for one in in_force(decisions[: len(decisions) - len(new)])}
            self.board.links = DecidedLinks(decisions, self.confirmed)
            after = in_force(decisions)
            aside = {one.decision.id for one in self.board.links.contradictions}
            kept = {one.id for one in after}
            for one in decisions:
                if one.id in before and one.id not in kept:
                    self.board.take_back(one)
            for one in after:
                if one.id not in before and one.id not in aside:
                    self.board.apply(one, is_new=False)
            return
        for one in new:
            self.queue.learn(one)
            count = len(self.board.links.contradictions)
            self.board.links.add([one])
            if len(self.board.links.contradictions) == count:
                self.board.apply(one)

    def decide(self, decision: Decision) -> int:
        """Write a decision and apply it; return 0 if it was there.

        Raises:
            ContradictionError: it contradicts earlier ones.
            RequestError: 404, there is nothing to undo; 409, the name belongs to another person.
        """

        def check(earlier: Sequence[Decision]) -> None:
            self.take(earlier)
            self._check(decision)

        added = self.file.append([decision], check)
        self.follow()
        return added

    def _check(self, decision: Decision) -> None:
        if decision.kind == UNDO:
            if decision.of not in {one.id for one in self.decisions}:
                raise RequestError(404, f"of: there is no decision {decision.of}")
            standing = {one.id for one in in_force(self.decisions)}
            target = next(one for one in self.decisions if one.id == decision.of)
            if target.kind != UNDO and target.id not in standing:
                raise RequestError(409, "this decision was taken back already")
            return
        if decision.kind == NAME:
            groups = self.board.groups_of(decision.rows)
            if any(name == decision.name and group not in groups for group, name in self.board.names.items()):
                raise RequestError(
                    409, f"name: there is another {decision.name!r}; merge the two, or choose another name"
                )
        self.board.links.check(decision)

    def keys(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the keys of rows; raise RequestError 404 if one is not there."""
        places = self.places(ids)
        return tuple(dict.fromkeys(self.board.rows.keys[place] for place in places.tolist()))

    def places(self, ids: Sequence[int]) -> np.ndarray:
        """Return the rows of the board with these ids; raise RequestError 404 if one is not there."""
        wanted = np.asarray(ids, np.int64)
        found = np.minimum(np.searchsorted(self.ids, wanted), max(0, len(self.ids) - 1))
        there = self.ids[found] == wanted if len(self.ids) else np.zeros(len(wanted), bool)
        if not there.all():
            raise RequestError(404, f"id {wanted[~there][0]} is not in the gallery, or was removed")
        return found

    def rest(self, rows: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of the other rows in the groups of some rows, MOST_ROWS at most."""
        found = np.concatenate([self.board.members[group] for group in self.board.groups_of(rows)])
        keys = dict.fromkeys(self.board.rows.keys[place] for place in found.tolist())
        return tuple(key for key in keys if key not in set(rows))[:MOST_ROWS]

    def written(self) -> tuple[People, People, SimilarPairs, np.ndarray]:
        """Return what `save` needs: people as they were read, and as they are now, pairs and groups."""
        after = replace(self.people, names=self.board.row_names())
        return self.people, after, self.board.rows.pairs, in_order(self.board.group)


def _confirmed(people: People, keys: Sequence[str]) -> dict[str, str]:
    places = np.flatnonzero(people.confirmed & ~is_none(people.names)).tolist()
    return {keys[place]: str(people.names[place]) for place in places}


def _board_of_columns(gallery: Gallery, people: People) -> PeopleBoard:
    """Return the groups that the records have, of rows that were not compared."""
    keys = [key.hex() for key in gallery.live_keys().to_pylist()]
    none = np.empty(0, np.int32)
    rows = ComparedRows(
        keys, people.keys, SimilarPairs(none, none, np.empty(0, np.float32)), Constraints.none(len(keys)), 1.0
    )
    return PeopleBoard(rows, people.names, DecidedLinks())


def save(gallery: Gallery, sitting: tuple[People, People, SimilarPairs, np.ndarray]) -> tuple[People, int]:
    """Write the people into the records; return what is there now, and how many rows have another person than before."""
    before, after, pairs, groups = sitting
    fits = row_fit(pairs, groups)
    after = replace(after, fit=np.where(np.isnan(fits.own), np.nan, fits.silhouette))
    count = write_people(gallery, before, after)
    return after, count


class DecisionTable:
    """Keeps a `Sitting` for the threads of a server; a new one is made when the rows change.

    Args:
        path: folder of the gallery.
        to_decide: whether visitors may decide.
    """

    def __init__(self, path: Any, to_decide: bool) -> None:
        self.path, self.to_decide = path, to_decide
        self._lock = threading.RLock()
        self._sitting: Sitting | None = None
        self._making: threading.Thread | None = None
        self._unsaved = False
        self.options = GroupingOptions()
        self.failure = ""

    @contextmanager
    def open(self) -> Iterator[Sitting]:
        """Yield the people with all decisions so far, for one thread.

        Raises:
            RequestError: 503, the rows are still being compared, or cannot be.
        """
        with self._lock:
            if self._sitting is None:
                (self.prepare if self.to_decide else self._make)()  # to read the columns takes no time
            if self._sitting is None:
                raise RequestError(503, self.failure or NOT_READY, {"Retry-After": "2"})
            try:
                self._sitting.follow()
            except UserError as error:
                raise RequestError(503, str(error)) from error
            yield self._sitting

    def is_ready(self) -> bool:
        """Return whether `open` would yield; starts what is needed."""
        with self._lock:
            if self._sitting is None and not self.failure:
                self.prepare()
            return self._sitting is not None

    def prepare(self) -> None:
        """Start to compare the rows, in a thread, unless that is being done."""
        with self._lock:
            if self._making is None or not self._making.is_alive():
                self.failure = ""
                self._making = threading.Thread(target=self._make, name="vitreid-people", daemon=True)
                self._making.start()

    def refresh(self, state: Any) -> None:
        """Start again if the rows are others than those of a state of the gallery; the earlier ones serve until then."""
        with self._lock:
            if self._sitting is not None and _rows_of(self._sitting.state) != _rows_of(state):
                self.prepare()

    def _make(self) -> None:
        try:
            gallery = Gallery.open(self.path, rows=READ)
            made = Sitting(gallery, group_people(gallery, self.options, to_decide=True) if self.to_decide else None)
        except (OSError, ValueError) as error:
            logger.error("the people of %s cannot be shown: %s", self.path, error)
            self.failure = str(error)
            return
        except Exception:
            self.failure = "the rows could not be compared; the server's log has the reason"
            raise
        with self._lock:
            self._sitting = made

    def decide(self, sitting: Sitting, decision: Decision) -> int:
        """Write and apply a decision; see `Sitting.decide`.

        Raises:
            RequestError: 409, it contradicts earlier ones; 503, it cannot be written.
        """
        try:
            added = sitting.decide(decision)
        except ContradictionError as error:
            raise RequestError(409, str(error)) from error
        except OSError as error:
            logger.error("a decision cannot be written: %s", error)
            raise RequestError(503, "the decision cannot be written now; the server's log has the reason") from error
        except UserError as error:
            raise RequestError(422, str(error)) from error
        self._unsaved = True
        return added

    def regroup(self, threshold: float | None, is_trial: bool) -> dict[str, Any]:
        """Group all rows again but the confirmed ones, up to another distance; write it, unless it is a trial.

        Args:
            threshold: distance, 0 to 1; None = the default.
        Returns:
            What it gives: the threshold, the numbers of people and of rows alone, and of rows that get another person.
        Raises:
            RequestError: 503, the rows are being compared, have just changed, or another program is writing them.
        """
        with self.open() as sitting:
            graph, state = sitting.graph, sitting.state
        gallery = Gallery.open(self.path, rows=READ)
        if self._is_making() or _rows_of(gallery.state) != _rows_of(state):
            raise RequestError(503, NOT_READY, {"Retry-After": "2"})
        options = GroupingOptions(AUTO if threshold is None else str(threshold), regroup=True)
        found = group_people(gallery, options, to_decide=True, compared=graph)
        assert found.board is not None
        sizes = [len(rows) for rows in found.board.members.values()]
        numbers = {
            "threshold": 1 - options.least,
            "people": sum(size > 1 for size in sizes),
            "alone": sum(size == 1 for size in sizes),
            "changed": int((found.after.names != found.before.names).sum()),
        }
        if not is_trial:
            self._take(gallery, found)
        return numbers

    def _take(self, gallery: Gallery, found: Grouping) -> None:
        """Write a grouping into the records, and serve it from now on."""
        try:
            write_people(gallery, found.before, found.after)
        except OSError as error:  # of another program that is writing, too
            logger.error("the people of %s cannot be written: %s", self.path, error)
            raise RequestError(
                503, "the people cannot be written now; try again in a moment", {"Retry-After": "2"}
            ) from error
        made = Sitting(gallery, replace(found, before=found.after))
        with self._lock:
            self._sitting, self.options = made, replace(found.options, regroup=False)

    def _is_making(self) -> bool:
        with self._lock:
            return self._making is not None and self._making.is_alive()

    def save(self) -> bool:
        """Write the people into the records, if a decision has changed them; return False if another program is writing."""
        with self._lock:
            if not self._unsaved or self._sitting is None:
                return True
            sitting, what = self._sitting, self._sitting.written()
            self._unsaved = False
        try:
            people = save(Gallery.open(self.path, rows=READ), what)[0]
        except BlockingIOError:
            self._unsaved = True
            return False
        except (OSError, ValueError) as error:
            logger.error("the people of %s are not in its records; the decisions are safe: %s", self.path, error)
            return True
        with self._lock:
            sitting.people = people
        return True

    def close(self) -> None:
        """Write what is not written yet."""
        with suppress(Exception):
            self.save()


def _rows_of(state: Any) -> tuple[Any, ...]:
    return state.count, state.removed, state.checksum
