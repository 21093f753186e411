"""The routes about people: requests -> decisions, groups, questions -> responses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from fastapi import Depends, Query, Request, Response

from ....common.errors import UserError
from ....common.files import digest
from ...identities.decisions.decided_links import in_force
from ...identities.enrolled_images import PersonImage
from ...keeping.decision_file import DIFFERENT, MERGE, MOVE, NAME, SAME, SPLIT, UNDO, UNSURE, Decision, new_id
from ..guard.same_site import check_same_site
from ..json_answer import as_json
from ..models import MAX_ID, CheckedFields
from ..request_body import FORM, JSON, fields_by_kind, fields_of
from ..request_error import RequestError
from ..service import REFRESH_SECONDS, Service
from ..worker_lanes import Lane
from . import people_answers
from .decision_table import DecisionTable, Sitting
from .known_service import KnownService
from .people_fields import (
    AnswerFields,
    DecisionFields,
    EnrolFields,
    IdentifyFields,
    MergeFields,
    MoveFields,
    NameFields,
    PersonFields,
    RegroupFields,
    SplitFields,
    UndoFields,
)
from .person_upload import PersonUpload, audited, enrolment

logger = logging.getLogger(__name__)
MOST_GROUPS, MOST_MEMBERS, MOST_QUESTIONS, MOST_LOG = 100, 200, 20, 200
SAVE_SECONDS = 10.0  # from a decision to the records, which are written as a whole
LEASE_SECONDS = 60.0  # a question that one window has is asked in another only after this time
ENROL_BODIES: Mapping[str, type[CheckedFields]] = {FORM: PersonFields, JSON: EnrolFields}
ANSWERS = {"same": SAME, "different": DIFFERENT, "unsure": UNSURE}
Offset = Annotated[int, Query(ge=0, le=10**9)]
Window = Annotated[
    str, Query(max_length=64, description="any text that names the window; two windows get different questions")
]


class Post(NamedTuple):
    """A route with a body: what answers, the fields of the body by its content type, and a line about it."""

    answer: Callable[..., Awaitable[Response]]
    bodies: Mapping[str, type[CheckedFields]]
    summary: str


class PeopleRoutes:
    """One method per route.

    Args:
        service: of the gallery.
        can_decide, can_enrol: whether visitors may decide, and add people from images.
        embed: image file, camera -> (D,) embedding.
        embed_kept: image file, camera -> the image as it is kept, and its embedding.
        record: visitor, search -> written into the audit, if there is one.
    """

    def __init__(
        self,
        service: Service,
        can_decide: bool,
        can_enrol: bool,
        embed: Callable[[bytes, str | None], Any],
        embed_kept: Callable[[bytes, str | None], Awaitable[PersonImage]],
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._service, self._can_decide, self._can_enrol = service, can_decide or can_enrol, can_enrol
        self._embed, self._embed_kept, self._record = embed, embed_kept, record
        self._has_people = hasattr(service.gallery, "state")  # a folder; Milvus has no records of ours
        path = service.gallery.path
        self.table, self._known = DecisionTable(path, self._can_decide), KnownService(path)
        self._upload = PersonUpload(path, service.model)
        self._lane, self._saving, self._knowing = Lane("people", 1), Lane("people-save", 1), Lane("identify", 1)
        self._enrolling, self._grouping = Lane("enrol", 1), Lane("regroup", 1)
        self._leases: dict[frozenset[str], tuple[str, float]] = {}
        self._refreshed = 0.0
        self._save_task: asyncio.Task[None] | None = None

    def posts(self) -> dict[str, Post]:
        """Return the routes with a body by address; all of them count for the rate limit."""
        return {
            "/people/decide": Post(self.decide, {JSON: AnswerFields}, "Do rows show one person?"),
            "/people/merge": Post(self.merge, {JSON: MergeFields}, "Make several people one"),
            "/people/split": Post(self.split, {JSON: SplitFields}, "Make rows another person"),
            "/people/move": Post(self.move, {JSON: MoveFields}, "Move rows to another person"),
            "/people/name": Post(self.name, {JSON: NameFields}, "Name a person"),
            "/people/undo": Post(self.undo, {JSON: UndoFields}, "Take a decision back"),
            "/people/regroup": Post(self.regroup, {JSON: RegroupFields}, "Group all rows again"),
            "/identify": Post(self.identify, dict.fromkeys((FORM, JSON), IdentifyFields), "Known, new, or ask"),
            "/enrol": Post(self.enrol, ENROL_BODIES, "Add a person from images, or choose who counts as known"),
        }

    async def state(self) -> Response:
        """Return the numbers of people and decisions, and whether the rows are compared already."""

        def act() -> dict[str, Any]:
            found: dict[str, Any] = {
                "can_decide": self._can_decide,
                "can_enrol": self._can_enrol,
                "is_ready": False,
                "failure": "",
            }
            if not self._has_people:
                return {**found, "failure": "people are shown for galleries in a folder only, not for those in Milvus"}
            if self._can_decide and not self.table.is_ready():
                return {**found, "failure": self.table.failure}
            with self._open() as sitting:
                return {**found, "is_ready": True, **people_answers.summary(sitting)}

        return as_json(await self._lane.run(act))

    async def groups(
        self,
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_GROUPS)] = 30,
        order: Literal["size", "name", "doubt"] = "size",
        find: Annotated[str, Query(max_length=200, description="part of a name; also finds rows alone")] = "",
    ) -> Response:
        """List the people of two rows and more, or with a given name: name, number of rows, ids of some of them."""
        return await self._read(lambda sitting: people_answers.stacks(sitting, offset, limit, order, find))

    async def group(
        self,
        row: Annotated[int, Query(ge=0, le=MAX_ID, description="id of a row of the person")],
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_MEMBERS)] = 60,
    ) -> Response:
        """List the rows of a person, the most typical first, and the people most like this one."""
        return await self._read(lambda sitting: people_answers.group(sitting, row, offset, limit))

    async def questions(
        self, count: Annotated[int, Query(ge=1, le=MOST_QUESTIONS)] = 3, window: Window = ""
    ) -> Response:
        """Return the pairs of rows whose answer is expected to change the groups the most; each window gets others."""

        def act(sitting: Sitting) -> dict[str, Any]:
            if sitting.queue is None:
                raise RequestError(403, "this server shows people only; start it with --decide to ask about them")
            now = time.monotonic()
            self._leases = {keys: lease for keys, lease in self._leases.items() if lease[1] > now}
            others = {keys for keys, lease in self._leases.items() if lease[0] != window}
            keys = sitting.board.rows.keys
            found = sitting.queue.next(count, others)
            if len(found) < count:  # then two windows may be asked the same
                mine = {frozenset((keys[one.one], keys[one.other])) for one in found}
                found += sitting.queue.next(count - len(found), mine)
            for one in found:
                self._leases[frozenset((keys[one.one], keys[one.other]))] = (window, now + LEASE_SECONDS)
            asked = [people_answers.question(sitting, one) for one in found]
            return {"questions": asked, "decisions": len(sitting.decisions)}

        return await self._read(act)

    async def log(
        self,
        before: Annotated[int | None, Query(ge=0, description="number of a decision; only earlier ones")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LOG)] = 50,
    ) -> Response:
        """List who decided what and when, newest first."""
        return await self._read(lambda sitting: people_answers.log(sitting, before, limit))

    async def decide(self, fields: Annotated[AnswerFields, Depends(fields_of(AnswerFields, [JSON]))]) -> Response:
        """Answer whether rows show one person; from now on `vitreid identities` keeps to it."""
        kind = ANSWERS[fields.answer]
        return await self._write(fields, lambda sitting: {"kind": kind, "rows": sitting.keys(fields.rows)})

    async def merge(self, fields: Annotated[MergeFields, Depends(fields_of(MergeFields, [JSON]))]) -> Response:
        """Make several people one."""
        return await self._write(fields, lambda sitting: {"kind": MERGE, "rows": sitting.keys(fields.rows)})

    async def split(self, fields: Annotated[SplitFields, Depends(fields_of(SplitFields, [JSON]))]) -> Response:
        """Make rows of a person another person."""

        def about(sitting: Sitting) -> dict[str, Any]:
            rows = sitting.keys(fields.rows)
            return {"kind": SPLIT, "rows": rows, "others": sitting.rest(rows)}

        return await self._write(fields, about)

    async def move(self, fields: Annotated[MoveFields, Depends(fields_of(MoveFields, [JSON]))]) -> Response:
        """Move rows from their person to another one."""

        def about(sitting: Sitting) -> dict[str, Any]:
            rows, to = sitting.keys(fields.rows), sitting.keys([fields.to])[0]
            if set(sitting.board.groups_of(rows)) & set(sitting.board.groups_of([to])):
                raise RequestError(409, "to: a row is of this person already")
            return {"kind": MOVE, "rows": rows, "to": to, "others": sitting.rest(rows)}

        return await self._write(fields, about)

    async def name(self, fields: Annotated[NameFields, Depends(fields_of(NameFields, [JSON]))]) -> Response:
        """Name a person, or give another name."""
        return await self._write(
            fields, lambda sitting: {"kind": NAME, "rows": sitting.keys([fields.row]), "name": fields.name}
        )

    async def undo(self, fields: Annotated[UndoFields, Depends(fields_of(UndoFields, [JSON]))]) -> Response:
        """Take a decision back; an undo can be taken back, too, but not that of an enrolment: its images are gone."""

        def about(sitting: Sitting) -> dict[str, Any]:
            enrolled, takes_back = enrolment(sitting.decisions, fields.of)
            if enrolled is not None and not self._can_enrol:
                raise RequestError(
                    403, "this server does not remove people; start it with --enrol to take an enrolment back"
                )
            if enrolled is not None and not takes_back:
                raise RequestError(409, "the images of this person were removed; enrol them again")
            if enrolled is not None and enrolled.id in {one.id for one in in_force(sitting.decisions)}:
                self._upload.remove(enrolled)  # before the undo: after a crash in between, it can be sent again
                self._look_again()
            return {"kind": UNDO, "of": fields.of}

        return await self._write(fields, about)

    async def regroup(self, fields: Annotated[RegroupFields, Depends(fields_of(RegroupFields, [JSON]))]) -> Response:
        """Group all rows again but the confirmed ones, up to another distance; decisions stay. A trial changes nothing."""
        self._check_people()
        self._check_may_decide()

        def act() -> dict[str, Any]:
            try:
                return self.table.regroup(fields.threshold, fields.trial)
            except UserError as error:
                raise RequestError(422, str(error)) from error

        numbers = await self._grouping.run(act)
        if not fields.trial:
            logger.info("%s grouped all rows again up to a distance of %g", fields.who, numbers["threshold"])
        return as_json(numbers)

    async def identify(
        self, fields: Annotated[IdentifyFields, Depends(fields_of(IdentifyFields, [FORM, JSON]))], request: Request
    ) -> Response:
        """Say whether images of one person show somebody known, with a probability, somebody new, or whether to ask."""
        self._check_people()
        if bool(fields.image) == bool(fields.rows):
            raise RequestError(422, "give images of one person, or rows of the gallery")
        found = await asyncio.gather(*(self._embed(image, fields.camera) for image in fields.image))
        vectors = np.stack(found) if found else None
        visitor = request.client.host if request.client else "unknown"

        def act() -> Response:
            shown = self._known.identify(fields, vectors)
            query = digest(fields.image) if fields.image else f"rows {', '.join(map(str, fields.rows))}"
            self._record(visitor, {"query": query, "camera": fields.camera, **shown})
            return as_json(shown)

        return await self._knowing.run(act)

    async def enrol(
        self, fields: Annotated[CheckedFields, Depends(fields_by_kind(ENROL_BODIES))], request: Request
    ) -> Response:
        """Form: add a person from images, whom /identify knows from then on. JSON: choose who counts as known in /identify."""
        self._check_people()
        if isinstance(fields, PersonFields):
            return await self._add_person(fields, request)
        assert isinstance(fields, EnrolFields)
        options = fields
        self._check_may_decide()
        return as_json(await self._knowing.run(lambda: self._known.enrol(options)))

    async def _add_person(self, fields: PersonFields, request: Request) -> Response:
        if not self._can_enrol:
            raise RequestError(403, "this server adds nobody; start it with --enrol to add people from images")
        check_same_site(request.headers)
        images = await asyncio.gather(*(self._embed_kept(image, fields.camera) for image in fields.image))
        self._record(request.client.host if request.client else "unknown", audited(fields))
        added = await self._enrolling.run(lambda: self._upload.add(fields, images))
        self._look_again()
        known = await self._knowing.run(self._known.summary)
        return as_json({**added, "people": known["people"], "is_calibrated": known["is_calibrated"]})

    def _look_again(self) -> None:
        """Read the changed rows at the next request."""
        self._service.look_again()
        self._refreshed = 0.0

    async def close(self) -> None:
        """Write the people into the records."""
        if self._save_task is not None:
            self._save_task.cancel()
        await self._saving.run(self.table.close)

    def _check_people(self) -> None:
        if not self._has_people:
            raise RequestError(404, "people are shown for galleries in a folder only, not for those in Milvus")

    def _check_may_decide(self) -> None:
        if not self._can_decide:
            raise RequestError(403, "this server shows people only; start it with --decide to decide about them")

    def _open(self) -> Any:
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self.table.refresh(self._service.state())
        return self.table.open()

    async def _read(self, act: Callable[[Sitting], dict[str, Any]]) -> Response:
        self._check_people()

        def read() -> Response:
            with self._open() as sitting:
                return as_json(act(sitting))

        return await self._lane.run(read)

    async def _write(self, fields: DecisionFields, about: Callable[[Sitting], dict[str, Any]]) -> Response:
        """Write a decision and return it, with the stacks of the people that it is about."""
        self._check_people()
        self._check_may_decide()

        def write() -> Response:
            with self._open() as sitting:
                try:
                    decision = Decision(**about(sitting), who=fields.who, id=fields.id or new_id())
                except UserError as error:
                    raise RequestError(422, str(error)) from error
                self.table.decide(sitting, decision)
                stacks = [
                    people_answers.stack(sitting, sitting.board.members[group])
                    for group in sitting.board.groups_of([*decision.rows, *([decision.to] if decision.to else [])])[:10]
                ]
                found = {"decision": people_answers.entry(sitting, decision), "people": stacks}
                return as_json({**found, "decisions": len(sitting.decisions)})

        answer = await self._lane.run(write)
        if self._save_task is None or self._save_task.done():
            self._save_task = asyncio.create_task(self._save_later())
        return answer

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_SECONDS)
        while not await self._saving.run(self.table.save):
            await asyncio.sleep(SAVE_SECONDS)
