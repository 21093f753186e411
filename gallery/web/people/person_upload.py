"""New people from uploaded images: embedded, kept in the gallery's folder, and known from then on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ....common.errors import UserError
from ....common.files import digest
from ...identities.enrolled_images import EnrolmentConflictError, NewPerson, PersonImage, enrol_person, remove_person
from ...keeping.decision_file import ENROL, Decision, DecisionFile, new_id
from ...storage.embeddings_file import READ
from ...storage.gallery import Gallery
from ..request_error import RequestError
from .people_fields import PersonFields

PAUSE, PATIENCE = 0.05, 5.0  # seconds: between two attempts to lock the gallery, in all
T = TypeVar("T")
logger = logging.getLogger(__name__)


class PersonUpload:
    """Adds people to a gallery and removes them; used by one thread at a time.

    Args:
        path: folder of the gallery.
        model: fingerprint of the model that embeds the images.
    """

    def __init__(self, path: Any, model: str) -> None:
        self.path, self._model = path, model

    def add(self, fields: PersonFields, images: Sequence[PersonImage]) -> dict[str, Any]:
        """Enrol a person; return the decision and the ids of the rows.

        Raises:
            RequestError: 409, the name or an image is there, or was removed; 422, the gallery does not accept the rows; 503, it
                cannot be written now.
        """
        person = NewPerson(fields.name, fields.who, fields.camera, fields.id or new_id())
        decision, ids = _when_free(
            lambda: enrol_person(Gallery.open(self.path, rows=READ), images, person, self._model)
        )
        entry = {name: getattr(decision, name) for name in ("id", "time", "who", "kind", "name")}
        count = len(DecisionFile(self.path).read())
        return {"decision": {**entry, "ids": ids, "rows": len(ids)}, "decisions": count}

    def remove(self, decision: Decision) -> int:
        """Remove the rows and images of an enrolment that is about to be taken back; errors as `add`."""
        return _when_free(lambda: remove_person(Gallery.open(self.path, rows=READ), decision))


def enrolment(decisions: Sequence[Decision], id: str) -> tuple[Decision | None, bool]:
    """Return the enrolment that an undo of the decision `id` is about, None = none, and whether the undo takes it back.

    An undo of an undo would bring it back.
    """
    by_id, takes_back = {one.id: one for one in decisions}, True
    one = by_id.get(id)
    while one is not None and one.of is not None:
        one, takes_back = by_id.get(one.of), not takes_back
    return (one if one is not None and one.kind == ENROL else None), takes_back


def audited(fields: PersonFields) -> dict[str, Any]:
    """Return what an audit of searches keeps of an enrolment."""
    return {"enrol": fields.name, "who": fields.who, "camera": fields.camera, "query": digest(fields.image)}


def _when_free(act: Callable[[], T]) -> T:
    """Return `act()`, once no other program writes the gallery."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise RequestError(
                    503, "another program is writing this gallery; try again", {"Retry-After": "5"}
                ) from error
            time.sleep(PAUSE)
        except EnrolmentConflictError as error:
            raise RequestError(409, str(error)) from error
        except UserError as error:
            raise RequestError(422, str(error)) from error
        except OSError as error:
            logger.error("a person cannot be enrolled, or removed: %s", error)
            raise RequestError(503, "the gallery cannot be written now; the server's log has the reason") from error
