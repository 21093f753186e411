"""Searches, images and attention maps of one gallery for many threads, without HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...common.pictures import encode, fit, heat_map
from ..search.filters import Condition, Where
from ..search.search_result import GalleryChangedError
from ..storage.embeddings_file import CutShortError
from ..storage.record_images import ImageFile, RecordImageError
from .batcher import Batcher, Embed
from .media.file_parts import ServedFile
from .media.row_files import crop_frames, crop_image, row_video, why_not_played
from .media.sighting_parts import part_of
from .models import SearchFields
from .overview import describe
from .request_error import RequestError

REFRESH_SECONDS = 5.0
REPLACING_SECONDS = 0.2  # for another program that is replacing the folder at this moment
OVERLAY_SIDE = 1024  # pixels
FACETS_SECONDS = 60.0  # age limit of the facets of a gallery that does not report its changes
VERDICTS = {True: "same", False: "different", None: "unknown"}
logger = logging.getLogger(__name__)


class Service:
    """A gallery and its model, for many threads.

    Args:
        gallery, embedder, batch_size: as for `create_app`.
        clock: the time in seconds; changes by other processes are seen within REFRESH_SECONDS.
    """

    def __init__(
        self, gallery: Any, embedder: Embed, batch_size: int = 32, clock: Callable[[], float] = time.monotonic
    ) -> None:
        gallery.info.check_embedder(gallery.path, embedder)
        self.gallery, self.batcher = gallery, Batcher(embedder, batch_size)
        self.model: str = embedder.fingerprint
        self.attention: Callable[..., np.ndarray] | None = getattr(embedder, "attention", None)
        self._planes: Callable[[np.ndarray], np.ndarray] | None = getattr(embedder, "planes", None)
        self.compute_alone: Callable[[], None] | None = getattr(embedder, "compute_alone", None)  # called in a thread
        self._clock, self._refreshed = clock, clock()
        self._is_gone = False
        self._lock = threading.Lock()  # one search at a time, because a search uses all cores
        self._facets: tuple[Any, dict[str, Any]] = (None, {})
        self.facets()

    def shrunk(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) at the model's size, if the embedder has one; a large image would hold up a whole batch."""
        return pixels if self._planes is None else self._planes(pixels).transpose(1, 2, 0)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Lock the gallery for one thread and refresh it if due.

        Raises:
            RequestError: 503, the gallery was deleted, or its files are damaged or cut short.
        """
        with self._lock:
            if self._clock() - self._refreshed >= REFRESH_SECONDS:
                self._refresh()
            if self._is_gone:
                raise _gone()
            try:
                yield self.gallery
            except CutShortError as error:
                logger.error("%s: %s", self.gallery.path, error)
                self._is_gone = True
                raise _gone(str(error)) from error

    def _refresh(self) -> None:
        """Read the changes of other programs; a gallery that cannot be read any more is not served any more."""
        for is_last in (False, True):
            try:
                (getattr(self.gallery, "reload", self.gallery.refresh) if self._is_gone else self.gallery.refresh)()
                self._is_gone = False
                break
            except (OSError, ValueError) as error:
                if is_last:
                    logger.error("the gallery cannot be read, so requests are refused until it can: %s", error)
                    self._is_gone = True
                else:
                    time.sleep(REPLACING_SECONDS)
        self._refreshed = self._clock()

    def look_again(self) -> None:
        """Read the changes of the gallery at the next request, not only when it is due."""
        self._refreshed = -float("inf")

    def facets(self) -> dict[str, Any]:
        """Return the gallery's summary, which the page shows before a search."""
        with self._open() as gallery:
            version = self._version(gallery)
            if self._facets[0] != version:
                self._facets = (version, {**describe(gallery), "attention": self.attention is not None})
            return self._facets[1]

    def _version(self, gallery: Any) -> tuple[Any, ...]:
        """Return a key that changes with the gallery. A folder reads a new state after each change, also of records only."""
        if (state := getattr(gallery, "state", None)) is not None:
            return id(state), state  # holding the state keeps its id from being reused
        return gallery.info, len(gallery), self._clock() // FACETS_SECONDS

    def state(self) -> Any:
        """Return the state of a gallery in a folder, which changes with its rows."""
        with self._open() as gallery:
            return gallery.state

    def record(self, id: int) -> dict[str, Any]:
        """Return a live row's record; a `RequestError` 404 if there is none."""
        with self._open() as gallery, _known(id):
            return gallery.rows_of([id])[0]

    def located(self, id: int) -> tuple[Path, dict[str, Any]]:
        """Return the file of a live row, and its record; errors as `record`."""
        record = self.record(id)
        return self._locate(record["path"]), record

    def crop(self, id: int, frame: int) -> ServedFile:
        """Return a stored crop of a live row's track; errors as `record` and `crop_image`."""
        return crop_image(self._locate(self.record(id)["path"]), frame)

    def video(self, id: int) -> ServedFile:
        """Return the recording of a live row; errors as `record` and `row_video`."""
        return row_video(self._recording(self.record(id)))

    def sighting(self, id: int) -> dict[str, Any]:
        """Return what is known of a live row's part of its recording; errors as `record`."""
        record = self.record(id)
        part = part_of(record)
        reason = "this row is no part of a recording" if part is None else why_not_played(self._recording(record))
        crops = [
            {"frame": frame, "seconds": part and part.seconds_of(frame), "image": f"crop/{id}/{frame}"}
            for frame in crop_frames(self._locate(record["path"]))
        ]
        known = {} if part is None else part._asdict()
        return {"record": record, **known, "video": None if reason else f"video/{id}", "reason": reason, "crops": crops}

    def _recording(self, record: dict[str, Any]) -> Path:
        video = record.get("video")
        if not isinstance(video, str) or not video:
            raise RecordImageError("this row is no part of a recording")
        return self._locate(video)

    def _locate(self, path: str) -> Path:
        return Path(self.gallery.image_path(path))

    def search(self, query: SearchFields, vector: np.ndarray | None) -> dict[str, Any]:
        """Return the ranked list.

        Args:
            query: the options, and the query's id if there is no vector.
            vector: (D,) embedding of the query.
        Raises:
            RequestError: 404 no such id, 422 the gallery does not accept a condition or the vector, 503 another program
                removed a row that was found.
        """
        started = time.perf_counter()
        record = self.record(query.id) if query.id is not None else None
        with self._open() as gallery:
            if vector is None:
                with _known(query.id):
                    vector = gallery.vectors_of([query.id])[0]
            if len(vector) not in (sizes := _sizes(gallery)):
                accepted = " or ".join(map(str, sizes))
                raise RequestError(422, f"vector: expected {accepted} numbers, got {len(vector)}")
            try:
                where = _where(query, record)
                camera = record["camera"] if record else query.camera
                result = gallery.search(vector[None], query.topk, where, rerank=query.rerank, cameras=camera)[0]
            except ValueError as error:
                raise RequestError(422, str(error)) from error
            try:
                rows = result.rows
            except GalleryChangedError as error:
                raise RequestError(503, str(error), {"Retry-After": "1"}) from error
        is_match = [None] * len(result) if result.is_match is None else result.is_match.tolist()
        likely = [None] * len(result) if result.probabilities is None else result.probabilities.tolist()
        return {
            "query": {"id": query.id, "record": record},
            "verdict": result.verdict,
            "threshold": result.threshold,
            "seconds": time.perf_counter() - started,
            "results": [
                {"id": id, "distance": distance, "verdict": VERDICTS[is_same], "probability": share, "record": row}
                for id, distance, is_same, share, row in zip(
                    result.ids.tolist(), result.distances.tolist(), is_match, likely, rows, strict=True
                )
            ],
        }

    def overlay(self, image: np.ndarray, camera: str | None) -> ImageFile:
        """Draw the model's attention over an image, (H, W, 3) uint8 RGB; return it as PNG, scaled down to OVERLAY_SIDE.

        Raises:
            RequestError: 404, the embedder has no attention.
        """
        if self.attention is None:
            raise RequestError(404, "this server's model has no attention map")
        weights = np.asarray(self.attention(image, camera), np.float32)
        shown = fit(image, (OVERLAY_SIDE, OVERLAY_SIDE), enlarge=False)
        return ImageFile(encode(heat_map(shown, weights)), "image/png")


def _gone(reason: str = "restore it, or ask its owner") -> RequestError:
    headers = {"Retry-After": str(int(REFRESH_SECONDS))}
    return RequestError(503, f"the gallery was deleted or is damaged; {reason}", headers)


def _sizes(gallery: Any) -> list[int]:
    """Return the accepted sizes of a query: the gallery's dimension, and the model's if the gallery is projected."""
    projection = getattr(gallery, "projection", None)  # Milvus galleries have none
    return [gallery.info.dimension, *([projection.num_inputs] if projection is not None else [])]


@contextmanager
def _known(id: int | None) -> Iterator[None]:
    """Turn the gallery's error for an unknown id into a response."""
    try:
        yield
    except (ValueError, KeyError) as error:
        raise RequestError(404, f"id {id} is not in the gallery, or was removed") from error


def _where(query: SearchFields, record: dict[str, Any] | None) -> Where:
    """Return the query's conditions; a query that is a row of the gallery is left out."""
    conditions = Where.parse(query.where).conditions
    if query.id is not None:
        conditions += (Condition("id", "!=", (query.id,)),)
    if query.other_cameras:
        camera = record["camera"] if record else query.camera
        if not camera:
            raise RequestError(
                422, "other_cameras: the query's camera is unknown; give it as 'camera', or leave this field out"
            )
        conditions += (Condition("camera", "!=", (camera,)),)
    return Where(conditions, hints=False)
