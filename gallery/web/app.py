"""The routes: requests -> service -> responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeVar

import anyio.to_thread
import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ... import __version__
from .batcher import Embed
from .limits import Limits
from .middleware import HEADERS, Guard
from .openapi import ABOUT, EMBED, ERRORS, IMAGE, OVERLAY, SEARCH
from .query import FIELDS, Query, parse_json, parse_query
from .record_images import ImageFile, read_pixels
from .request_error import Refused
from .service import Service
from .upload_decode import decode

PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}
NUM_DECODERS = 4  # images that are pixels at the same time while they are being read
NUM_OVERLAYS = 2  # images that are under the model's attention at the same time
logger = logging.getLogger(__name__)
T = TypeVar("T")


def build_app(gallery: Any, embedder: Embed, limits: Limits, batch_size: int) -> FastAPI:
    """Return the application; see `vitreid.gallery.web.create_app`."""
    service = Service(gallery, embedder, batch_size)
    routes = Routes(service, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.batcher.close()

    app = FastAPI(
        title="vitreid gallery",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Guard, limits=limits)
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    for path, (name, media_type) in PAGES.items():
        app.add_api_route(path, _page(name, media_type), include_in_schema=False)
    app.add_api_route("/health", routes.health, summary="Is the server up?")
    app.add_api_route(
        "/facets", routes.facets, summary="Size, cameras, times and threshold of the gallery", responses=ERRORS
    )
    app.add_api_route("/image/{id}", routes.image, summary="The image of a row", responses={**IMAGE, **ERRORS})
    post: dict[str, Any] = {"methods": ["POST"]}
    app.add_api_route(
        "/search", routes.search, summary="The closest people", responses=ERRORS, openapi_extra=SEARCH, **post
    )
    app.add_api_route(
        "/embed", routes.embed, summary="An image's embedding", responses=ERRORS, openapi_extra=EMBED, **post
    )
    app.add_api_route(
        "/attention",
        routes.overlay,
        summary="Where the model looks",
        responses={**IMAGE, **ERRORS},
        openapi_extra=OVERLAY,
        **post,
    )
    return app


def _page(name: str, media_type: str) -> Callable[[], Response]:
    """Return a route that answers with a file of this folder, read once."""
    content = (files(__package__) / name).read_bytes()

    def page() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return page


class Routes:
    """One method per route."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service, self.limits = service, limits
        self._decoders = anyio.CapacityLimiter(NUM_DECODERS)
        self._overlays = anyio.CapacityLimiter(NUM_OVERLAYS)

    def health(self) -> JSONResponse:
        """Answer; needs no token."""
        return JSONResponse({"status": "ok", "version": __version__})

    def facets(self) -> JSONResponse:
        """Describe the gallery, and what an upload may be."""
        limits = {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels}
        return JSONResponse({**self.service.facets(), **limits})

    def image(self, id: int) -> Response:
        """Send the file that the row's record names; nothing else on the disk can be named."""
        return _as_response(self.service.image(_in_range(id)), "private, max-age=600")

    async def search(self, request: Request) -> JSONResponse:
        """Rank the gallery by the distance to an uploaded image, to one of its own rows, or to an embedding."""
        query = await read_query(request)
        vector = query.vector if query.image is None else await self._embed(query)
        return JSONResponse(await _in_thread(lambda: self.service.search(query, vector)))

    async def embed(self, request: Request) -> JSONResponse:
        """Return the embedding of an uploaded image, as `/search` takes it."""
        query = await read_query(request)
        if query.image is None:
            raise Refused(422, "image: expected a file, sent as multipart/form-data")
        vector = await self._embed(query)
        model = self.service.gallery.info.model
        return JSONResponse({"vector": [float(value) for value in vector], "dimension": len(vector), "model": model})

    async def overlay(self, request: Request) -> Response:
        """Colour an uploaded image, or that of a row, by the model's attention; red is most."""
        query = await read_query(request)
        if query.vector is not None:
            raise Refused(422, "vector: an embedding has no pixels; give an image or an id")
        async with self._overlays:  # who waits here holds no pixels yet
            pixels, camera = await self._pixels(query), query.camera
            return _as_response(await _in_thread(lambda: self.service.overlay(pixels, camera)), "no-store")

    async def _embed(self, query: Query) -> np.ndarray:
        job = self.service.batcher.submit(await self._pixels(query), query.camera)
        return np.asarray(await asyncio.wrap_future(job), np.float32)

    async def _pixels(self, query: Query) -> np.ndarray:
        content, id = query.image, query.id
        if content is not None:
            return await _in_thread(lambda: decode(content, self.limits.max_pixels), self._decoders)
        assert id is not None  # for the type checker: a query has one of them
        return await _in_thread(lambda: read_pixels(self.service.image(id)), self._decoders)


async def _in_thread(action: Callable[[], T], limiter: anyio.CapacityLimiter | None = None) -> T:
    return await anyio.to_thread.run_sync(action, limiter=limiter)


async def read_query(request: Request) -> Query:
    """Return the fields of a JSON body or of a form.

    Raises:
        Refused: 400 cannot be read, 415 neither, 422 fields that are not accepted.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return parse_query(parse_json(await request.body()))
    if kind != "multipart/form-data":
        raise Refused(415, "expected multipart/form-data with an image, or application/json with an id or a vector")
    async with request.form(max_files=1, max_fields=64) as form:
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            if name == "where" and isinstance(content, str):
                fields.setdefault(name, []).append(content)
            elif name in fields:
                raise Refused(422, f"{name}: given twice" if name in FIELDS else "a field is given twice")
            else:
                fields[name] = content
    if any(isinstance(value, bytes) for name, value in fields.items() if name != "image"):
        raise Refused(422, "only image is sent as a file")
    return parse_query(fields)


def _in_range(id: int) -> int:
    if not 0 <= id < 2**63:
        raise Refused(404, "no such id in the gallery")
    return id


def _as_response(file: ImageFile, cache: str) -> Response:
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": cache})


def _sentence(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"detail": sentence.encode("utf-8", "replace").decode()}, status, headers)


def _refused(_: Request, error: Any) -> JSONResponse:
    return _sentence(error.status, error.sentence, error.headers)


def _not_valid(_: Request, error: Any) -> JSONResponse:
    found = error.errors()[0]
    return _sentence(422, f"{found['loc'][-1]}: {found['msg']}")


def _http(_: Request, error: Any) -> JSONResponse:
    return _sentence(error.status_code, str(error.detail), error.headers)


def _gone(_: Request, __: Any) -> JSONResponse:
    return _sentence(400, "the connection was closed before the request was complete")


def _failed(request: Request, error: Any) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = {name.decode(): value.decode() for name, value in HEADERS}  # this answer does not pass through Guard
    return _sentence(500, "the server failed at this request; its log says why", headers)


HANDLERS: dict[Any, Any] = {
    Refused: _refused,
    RequestValidationError: _not_valid,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _failed,
}
