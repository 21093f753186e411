"""The routes: requests -> service -> responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
import numpy as np
from fastapi import Depends, Path, Request, Response

from ... import __version__
from ...common.files import digest
from ..identities.enrolled_images import PersonImage, kept_pixels
from ..keeping.search_audit import SearchAudit
from ..storage.record_images import ImageFile
from .guard.limits import Limits
from .guard.tickets import Tickets
from .json_answer import as_json
from .media.file_parts import ServedFile, answer_with
from .media.row_files import content_of, is_cut, row_image
from .media.upload_decode import decode, pixels_of
from .models import MAX_ID, AttentionFields, EmbedFields, SearchFields
from .request_body import fields_of
from .request_error import RequestError
from .service import Service
from .worker_lanes import Lane

SMALL_PIXELS = 1_000_000  # a crop of a person has fewer; larger images wait for each other, not small ones for them
NUM_SMALL, NUM_LARGE = 64, 1  # images that are pixels at the same time: 3 MB each, and up to 3 * max_pixels bytes
NUM_OVERLAYS = 2  # attention maps computed at the same time
USUAL_TOPK, USUAL_CONDITIONS = 100, 4
IMAGE_CACHE = "private, max-age=600"
Id = Annotated[int, Path(ge=0, le=MAX_ID)]
SearchBody = Annotated[SearchFields, Depends(fields_of(SearchFields))]
EmbedBody = Annotated[EmbedFields, Depends(fields_of(EmbedFields))]
AttentionBody = Annotated[AttentionFields, Depends(fields_of(AttentionFields))]
P = TypeVar("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Routes:
    """One method per route."""

    def __init__(self, service: Service, limits: Limits, tickets: Tickets, audit: SearchAudit | None = None) -> None:
        self.service, self.limits, self._tickets, self._audit = service, limits, tickets, audit
        self._room = {False: anyio.CapacityLimiter(NUM_SMALL), True: anyio.CapacityLimiter(NUM_LARGE)}
        self._reading, self._cutting = Lane("read", 4), Lane("cut", 1)
        costly = partial(
            Lane, others_wait=self._crops_wait
        )  # what costs as much as many crops does not take their time
        self._decoding = {False: Lane("decode", 2), True: costly("decode-large", 1, 2)}
        self._searching = {  # a search uses all cores
            False: Lane("search", 1),
            True: costly("search-costly", 1, 1, begin=service.compute_alone),
        }
        self._overlaying = costly("overlay", NUM_OVERLAYS, 1)

    def _crops_wait(self) -> bool:
        return self._room[False].borrowed_tokens > 0

    async def health(self) -> Response:
        """Report that the server is up; needs no token."""
        return as_json({"status": "ok", "version": __version__})

    async def facets(self) -> Response:
        """Return the gallery's size, cameras, times and threshold, and the limits of an upload."""
        limits = {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels}
        return await self._reading.run(lambda: as_json({**self.service.facets(), **limits}))

    async def image(self, id: Id, request: Request) -> Response:
        """Send the image file of a row's record."""
        image = await self._image(id)
        if isinstance(image, ImageFile):
            return _as_image(image, IMAGE_CACHE)
        return answer_with(image, request.headers, self._reading, IMAGE_CACHE)

    async def crop(self, id: Id, frame: Id, request: Request) -> Response:
        """Send a crop of a row's track; /sighting lists the frames that have one."""
        served = await self._reading.run(lambda: self.service.crop(id, frame))
        return answer_with(served, request.headers, self._reading, IMAGE_CACHE)

    async def sighting(self, id: Id) -> Response:
        """Return the seconds of its recording that a row shows, the box, the stored crops, and the address of the recording."""
        found = await self._reading.run(lambda: self.service.sighting(id))
        if found["video"] and self.limits.token:  # a player sends no token
            found["video"] += f"?ticket={self._tickets.issue('/' + found['video'])}"
        return as_json(found)

    async def video(self, id: Id, request: Request) -> Response:
        """Send the recording that the row's record names, or a range of its bytes."""
        served = await self._reading.run(lambda: self.service.video(id))
        return answer_with(served, request.headers, self._reading, "private, no-cache")

    async def _image(self, id: int) -> ServedFile | ImageFile:
        path, record = await self._reading.run(lambda: self.service.located(id))
        lane = self._cutting if is_cut(path, record) else self._reading
        return await lane.run(lambda: row_image(path, record, self.limits.max_pixels))

    async def search(self, fields: SearchBody, request: Request) -> Response:
        """Rank the gallery by the distance to an uploaded image, to one of its rows, or to an embedding."""
        vector = None if fields.vector is None else np.asarray(fields.vector, np.float32)
        if fields.image is not None:
            vector = await self.embedded(fields.image, fields.camera)
        visitor = request.client.host if request.client else "unknown"
        lane = self._searching[is_costly(fields)]
        return await lane.run(lambda: as_json(self._search(fields, vector, visitor)))

    def _search(self, fields: SearchFields, vector: np.ndarray | None, visitor: str) -> dict[str, Any]:
        """Return the ranked list; with an audit, only once the search is written down."""
        answer = self.service.search(fields, vector)
        self.record(visitor, asked_and_found(fields, answer))
        return answer

    def record(self, visitor: str, search: dict[str, Any]) -> None:
        """Write a search down, if there is an audit; raise RequestError 503 if that fails."""
        if self._audit is None:
            return
        try:
            self._audit.record(visitor, search)
        except OSError as error:
            logger.error("the audit cannot be written, so searches are refused: %s", error)
            raise RequestError(503, "this server keeps an audit of searches and cannot write it now") from error

    async def embed(self, fields: EmbedBody) -> Response:
        """Return the embedding of an uploaded image, as /search accepts it."""
        vector = await self.embedded(fields.image, fields.camera)
        return as_json({"vector": vector, "dimension": len(vector), "model": self.service.gallery.info.model})

    async def overlay(self, fields: AttentionBody) -> Response:
        """Draw the model's attention over an uploaded image or that of a row; bright areas have the most attention."""

        async def draw(pixels: np.ndarray) -> ImageFile:
            return await self._overlaying.run(lambda: self.service.overlay(pixels, fields.camera))

        return _as_image(
            await self._with_pixels(await self._content_of(fields), draw, lambda pixels: pixels), "no-store"
        )

    async def _content_of(self, fields: AttentionFields) -> bytes:
        """Return the uploaded image, or that of the row."""
        if fields.image is not None:
            return fields.image
        id = fields.id
        assert id is not None  # the fields hold one of the two
        image = await self._image(id)
        return await self._reading.run(lambda: content_of(image))

    async def embedded(self, content: bytes, camera: str | None) -> np.ndarray:
        """Return the embedding (D,) of an image file."""

        async def embed(pixels: np.ndarray) -> np.ndarray:
            return np.asarray(await asyncio.wrap_future(self.service.batcher.submit(pixels, camera)), np.float32)

        return await self._with_pixels(content, embed, self.service.shrunk)

    async def embedded_kept(self, content: bytes, camera: str | None) -> PersonImage:
        """Return an image file as it is kept in a gallery, and its embedding."""

        async def embed(pixels: tuple[np.ndarray, np.ndarray]) -> PersonImage:
            kept, shrunk = pixels
            vector = await asyncio.wrap_future(self.service.batcher.submit(shrunk, camera))
            return PersonImage(kept, np.asarray(vector, np.float32))

        def prepare(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            kept = kept_pixels(pixels)
            return kept, self.service.shrunk(kept)

        return await self._with_pixels(content, embed, prepare)

    async def _with_pixels(
        self,
        content: bytes,
        use: Callable[[P], Awaitable[T]],
        prepare: Callable[[np.ndarray], P],
    ) -> T:
        """Return `use(prepare(pixels))` for an image file; the number of images that are pixels at the same time is limited."""
        num_pixels = await self._decoding[False].run(lambda: pixels_of(content, self.limits.max_pixels))
        is_large = num_pixels > SMALL_PIXELS
        async with self._room[is_large]:  # a request that waits here holds no pixels yet
            lane = self._decoding[is_large]
            return await use(await lane.run(lambda: prepare(decode(content, self.limits.max_pixels))))


def is_costly(fields: SearchFields) -> bool:
    """Return whether a search takes much longer than most."""
    return fields.rerank or fields.topk > USUAL_TOPK or len(fields.where) > USUAL_CONDITIONS


def asked_and_found(fields: SearchFields, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an audit keeps of a search: the query (of an image a digest), the conditions, the rows found, the verdict."""
    query = "vector" if fields.image is None else digest([fields.image])
    return {
        "query": query if fields.id is None else f"row {fields.id}",
        "where": fields.where,
        "camera": fields.camera,
        "other_cameras": fields.other_cameras,
        "topk": fields.topk,
        "verdict": answer["verdict"],
        "found": [row["id"] for row in answer["results"]],
    }


def _as_image(file: ImageFile, cache: str) -> Response:
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": cache})
