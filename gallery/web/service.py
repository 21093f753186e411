"""What the server does, without the web around it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from ..search.filters import Condition, Where
from ..search.query_vectors import check_embedder
from ..search.search_result import GalleryChangedError
from . import json_values as answers
from .batcher import Batcher, Embed
from .overview import describe
from .query import Query
from .record_images import ImageFile, load_image
from .request_error import Refused

REFRESH_SECONDS = 5.0
FACETS_SECONDS = 60.0  # how long they may be out of date where a gallery does not tell that it changed
logger = logging.getLogger(__name__)


class Service:
    """A gallery and its model, for many threads.

    Args:
        gallery, embedder, batch_size: as for `create_app`.
        clock: seconds; what other processes write into the gallery is seen within REFRESH_SECONDS.
    Raises:
        ValueError: the embedder is not the gallery's, or the gallery's threshold is damaged.
    """

    def __init__(
        self, gallery: Any, embedder: Embed, batch_size: int = 32, clock: Callable[[], float] = time.monotonic
    ) -> None:
        check_embedder(gallery.info, gallery.path, embedder)
        self.gallery, self.batcher = gallery, Batcher(embedder, batch_size)
        self.attention: Callable[..., np.ndarray] | None = getattr(embedder, "attention", None)
        self._clock, self._refreshed = clock, clock()
        self._lock = threading.Lock()  # one search at a time: it has all cores to itself
        self._facets: tuple[Any, dict[str, Any]] = (None, {})
        self.facets()

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Give the gallery to one thread."""
        with self._lock:
            if self._clock() - self._refreshed >= REFRESH_SECONDS:
                self._refresh()
            yield self.gallery

    def _refresh(self) -> None:
        try:
            self.gallery.refresh()
        except (OSError, ValueError):  # being replaced, or gone: what was opened is still there
            logger.warning("cannot read the gallery again; its earlier state is served", exc_info=True)
        self._refreshed = self._clock()

    def facets(self) -> dict[str, Any]:
        """Return what the page shows before a search."""
        with self._open() as gallery:
            version = self._version(gallery)
            if self._facets[0] != version:
                self._facets = (version, {**describe(gallery), "attention": self.attention is not None})
            return self._facets[1]

    def _version(self, gallery: Any) -> tuple[Any, ...]:
        """Return what is another after each change: a folder's state is read anew, even if only records changed."""
        if (state := getattr(gallery, "state", None)) is not None:
            return id(state), state  # kept with its id, so that no other state can have that id
        return gallery.info, len(gallery), self._clock() // FACETS_SECONDS

    def record(self, id: int) -> dict[str, Any]:
        """Return a live row's record.

        Raises:
            Refused: 404, there is none.
        """
        with self._open() as gallery, _known(id):
            return gallery.rows_of([id])[0]

    def image(self, id: int) -> ImageFile:
        """Return the image of a live row.

        Raises:
            Refused: 404, there is no such row, or its file is gone.
        """
        record = self.record(id)
        return load_image(self.gallery.image_path(record["path"]), record)

    def search(self, query: Query, vector: np.ndarray | None) -> dict[str, Any]:
        """Return the ranked list.

        Args:
            query: `id` is the query unless there is a vector.
            vector: (D,) embedding.
        Raises:
            Refused: 404 no such id, 422 the gallery does not accept a condition or the vector, 503 another program removed
                what was found.
        """
        started = time.perf_counter()
        record = self.record(query.id) if query.id is not None else None
        with self._open() as gallery:
            if vector is None:
                with _known(query.id):
                    vector = gallery.vectors_of([query.id])[0]
            try:
                where = _where(query, record)
                result = gallery.search(vector[None], query.topk, where, rerank=query.rerank)[0]
            except ValueError as error:
                raise Refused(422, str(error)) from error
            try:
                rows = result.rows
            except GalleryChangedError as error:
                raise Refused(503, str(error), {"Retry-After": "1"}) from error
        is_match = [None] * len(result) if result.is_match is None else result.is_match.tolist()
        return {
            "query": {"id": query.id, "record": answers.plain(record)},
            "verdict": result.verdict,
            "threshold": result.threshold,
            "seconds": time.perf_counter() - started,
            "results": [
                answers.match(*found) for found in zip(result.ids, result.distances, is_match, rows, strict=True)
            ],
        }

    def overlay(self, image: np.ndarray, camera: str | None) -> ImageFile:
        """Return an image (H, W, 3) RGB under the model's attention, as PNG.

        Raises:
            Refused: 404, the embedder does not tell where it looks.
        """
        if self.attention is None:
            raise Refused(404, "this server's model does not show its attention")
        weights = np.asarray(self.attention(image, camera), np.float32)
        weights = weights - weights.min()
        weights /= max(float(weights.max()), 1e-12)
        heat = cv2.resize(weights, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
        colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)
        mixed = cv2.addWeighted(image[..., ::-1], 0.55, colours, 0.45, 0)
        return ImageFile(cv2.imencode(".png", mixed)[1].tobytes(), "image/png")


@contextmanager
def _known(id: int | None) -> Iterator[None]:
    """Refuse an id that the gallery does not find."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise Refused(404, f"id {id} is not in the gallery, or was removed") from error


def _where(query: Query, record: dict[str, Any] | None) -> Where:
    """Return the query's conditions; a row of the gallery does not find itself."""
    conditions = Where.parse(query.where).conditions
    if query.id is not None:
        conditions += (Condition("id", "!=", (query.id,)),)
    if query.other_cameras:
        camera = record["camera"] if record else query.camera
        if not camera:
            raise Refused(
                422, "other_cameras: the query's own camera is not known; name it in 'camera', or leave this out"
            )
        conditions += (Condition("camera", "!=", (camera,)),)
    return Where(conditions)
