"""Whom images show: the enrolled people of a served gallery."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

import numpy as np

from ....common.errors import UserError
from ...identities.known_people import EnrolmentOptions, KnownPeople, enrol
from ...storage.embeddings_file import READ
from ...storage.gallery import Gallery
from ...storage.metadata import State
from ..request_error import RequestError
from .people_fields import EnrolFields, IdentifyFields

SHOWN = 1000  # names of enrolled people


class KnownService:
    """The known people of a gallery; enrolled again when its rows or their people change.

    Args:
        path: folder of the gallery.
    """

    def __init__(self, path: Any) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._options = EnrolmentOptions()
        self._known: KnownPeople | None = None
        self._gallery: Gallery | None = None
        self._state: State | None = None

    def _enrolled(self) -> tuple[Gallery, KnownPeople]:
        if self._gallery is None:
            self._gallery = Gallery.open(self.path, rows=READ)
        self._gallery.refresh()
        if self._known is None or self._state is not self._gallery.state:  # a new one is read after each change
            self._known, self._state = enrol(self._gallery, self._options, "none"), self._gallery.state
        return self._gallery, self._known

    def enrol(self, fields: EnrolFields) -> dict[str, Any]:
        """Enrol the people by other options; return who is known."""
        with self._lock:
            self._options = EnrolmentOptions(
                fields.least, fields.templates, confirmed=fields.confirmed, expire_after=fields.expire_after
            )
            self._known = None
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Return who is known."""
        with self._lock:
            known = _answered(self._enrolled)[1]
        return {
            "people": len(known.names),
            "templates": len(known.templates),
            "is_calibrated": bool(np.isfinite(known.calibration.known_above(0.5))),
            "names": list(known.names[:SHOWN]),
        }

    def identify(self, fields: IdentifyFields, vectors: np.ndarray | None) -> dict[str, Any]:
        """Return what images show.

        Args:
            fields: the options, and rows if there are no vectors.
            vectors: (n, D) embeddings of images of one person.
        """
        with self._lock:
            return _answered(lambda: self._identified(fields, vectors))

    def _identified(self, fields: IdentifyFields, vectors: np.ndarray | None) -> dict[str, Any]:
        gallery, known = self._enrolled()
        if vectors is None:
            try:
                vectors = gallery.vectors_of(fields.rows)
            except UserError as error:
                raise RequestError(404, str(error)) from error
        rows = gallery.project(vectors)
        found = known.identify(rows, [fields.camera] * len(rows), far=fields.far, miss=fields.miss, ask=fields.ask)
        return {**asdict(found), "people": len(known.names)}


def _answered(act: Any) -> Any:
    try:
        return act()
    except UserError as error:
        raise RequestError(422, str(error)) from error
