"""The routes: requests -> service -> responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import anyio
import numpy as np
from fastapi import Depends, Path, Response
from pydantic_core import to_json

from ... import __version__
from ..storage.record_images import ImageFile
from .guard.limits import Limits
from .models import MAX_ID, AttentionFields, EmbedFields, SearchFields
from .request_body import JSON, fields_of
from .service import Service
from .upload_decode import decode, pixels_of
from .worker_lanes import Lane

SMALL_PIXELS = 1_000_000  # a crop of a person has fewer; larger images wait for each other, not small ones for them
NUM_SMALL, NUM_LARGE = 64, 1  # images that are pixels at the same time: 3 MB each, and up to 3 * max_pixels bytes
NUM_OVERLAYS = 2  # attention maps computed at the same time
SearchBody = Annotated[SearchFields, Depends(fields_of(SearchFields))]
EmbedBody = Annotated[EmbedFields, Depends(fields_of(EmbedFields))]
AttentionBody = Annotated[AttentionFields, Depends(fields_of(AttentionFields))]
T = TypeVar("T")


class Routes:
    """One method per route."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service, self.limits = service, limits
        self._searching = Lane("search", 1)  # a search uses all cores
        self._reading = Lane("read", 4)
        self._decoding = {False: Lane("decode", 2), True: Lane("decode-large", 1)}
        self._room = {False: anyio.CapacityLimiter(NUM_SMALL), True: anyio.CapacityLimiter(NUM_LARGE)}
        self._overlaying = Lane("overlay", NUM_OVERLAYS)

    async def health(self) -> Response:
        """Report that the server is up; needs no token."""
        return _as_json({"status": "ok", "version": __version__})

    async def facets(self) -> Response:
        """Return the gallery's size, cameras, times and threshold, and the limits of an upload."""
        limits = {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels}
        return await self._reading.run(lambda: _as_json({**self.service.facets(), **limits}))

    async def image(self, id: Annotated[int, Path(ge=0, le=MAX_ID)]) -> Response:
        """Send the image file of a row's record."""
        return _as_image(await self._reading.run(lambda: self.service.image(id)), "private, max-age=600")

    async def search(self, fields: SearchBody) -> Response:
        """Rank the gallery by the distance to an uploaded image, to one of its rows, or to an embedding."""
        vector = None if fields.vector is None else np.asarray(fields.vector, np.float32)
        if fields.image is not None:
            vector = await self._embed(fields.image, fields.camera)
        return await self._searching.run(lambda: _as_json(self.service.search(fields, vector)))

    async def embed(self, fields: EmbedBody) -> Response:
        """Return the embedding of an uploaded image, as /search accepts it."""
        vector = await self._embed(fields.image, fields.camera)
        return _as_json({"vector": vector, "dimension": len(vector), "model": self.service.gallery.info.model})

    async def overlay(self, fields: AttentionBody) -> Response:
        """Draw the model's attention over an uploaded image or that of a row; bright areas have the most attention."""

        async def draw(pixels: np.ndarray) -> ImageFile:
            return await self._overlaying.run(lambda: self.service.overlay(pixels, fields.camera))

        return _as_image(await self._with_pixels(await self._content_of(fields), draw), "no-store")

    async def _content_of(self, fields: AttentionFields) -> bytes:
        """Return the uploaded image, or that of the row."""
        if fields.image is not None:
            return fields.image
        id = fields.id
        assert id is not None  # the fields hold one of the two
        return await self._reading.run(lambda: self.service.image(id).content)

    async def _embed(self, content: bytes, camera: str | None) -> np.ndarray:
        async def embed(pixels: np.ndarray) -> np.ndarray:
            return np.asarray(await asyncio.wrap_future(self.service.batcher.submit(pixels, camera)), np.float32)

        return await self._with_pixels(content, embed)

    async def _with_pixels(self, content: bytes, use: Callable[[np.ndarray], Awaitable[T]]) -> T:
        """Return `use(pixels)` for an image file; the number of images that are pixels at the same time is limited."""
        num_pixels = await self._decoding[False].run(lambda: pixels_of(content, self.limits.max_pixels))
        is_large = num_pixels > SMALL_PIXELS
        async with self._room[is_large]:  # a request that waits here holds no pixels yet
            return await use(await self._decoding[is_large].run(lambda: decode(content, self.limits.max_pixels)))


def _as_image(file: ImageFile, cache: str) -> Response:
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": cache})


def _as_json(value: dict[str, Any]) -> Response:
    """Return a JSON response: NumPy values as lists and numbers, NaN and infinity as null, dates as ISO 8601."""
    content = to_json(value, inf_nan_mode="null", bytes_mode="base64", fallback=_from_numpy)
    return Response(content, media_type=JSON)


def _from_numpy(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
