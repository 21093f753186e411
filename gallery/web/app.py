"""The routes: requests -> service -> responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import numpy as np
from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ... import __version__
from ..storage.record_images import ImageFile, RecordImageError, read_pixels
from .batcher import Embed
from .limits import Limits
from .middleware import HEADERS, Guard
from .models import ERRORS, MAX_ID, AttentionFields, EmbedFields, SearchFields, explain
from .request_error import RequestError
from .service import Service
from .upload_decode import decode

PAGES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/requests.js": ("requests.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    # FastAPI's own page of the API loads scripts from another site; this one needs no internet
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}
OPEN = {*PAGES, "/openapi.json", "/health"}  # readable without a token: they hold no personal data
COSTLY = {"/search", "/embed", "/attention"}  # counted by the rate limit
ABOUT = (
    "Who else in the gallery is this person? Distances are measured by the gallery's metric. A result is the same person "
    "if its distance is at most the gallery's threshold, different if it is larger, unknown if the gallery has no threshold."
)
FORM, JSON = "multipart/form-data", "application/json"
NUM_DECODERS = 4  # uploads decoded at the same time
NUM_OVERLAYS = 2  # attention maps computed at the same time
logger = logging.getLogger(__name__)
T = TypeVar("T")
Fields = TypeVar("Fields", bound=EmbedFields)


def build_app(gallery: Any, embedder: Embed, limits: Limits, batch_size: int) -> FastAPI:
    """Return the application; see `vitreid.gallery.web.create_app`."""
    service = Service(gallery, embedder, batch_size)

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
    app.add_middleware(Guard, limits=limits, open_paths=OPEN, costly_paths=COSTLY)
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    for path, (name, media_type) in PAGES.items():
        app.add_api_route(path, _page(name, media_type), include_in_schema=False)
    _add_routes(app, Routes(service, limits))
    return app


def _add_routes(app: FastAPI, routes: Routes) -> None:
    add = app.add_api_route
    image: dict[str, Any] = {
        "response_class": Response,
        "responses": {200: {"content": {"image/*": {}}, "description": "the image"}, **ERRORS},
    }
    add("/health", routes.health, summary="Is the server up?")
    add("/facets", routes.facets, summary="Size, cameras, times and threshold of the gallery", responses=ERRORS)
    add("/image/{id}", routes.image, summary="The image of a row", **image)
    post: dict[str, Any] = {"methods": ["POST"]}
    search, embed = _body(SearchFields, FORM, JSON), _body(EmbedFields, FORM)
    add("/search", routes.search, summary="The closest people", responses=ERRORS, openapi_extra=search, **post)
    add("/embed", routes.embed, summary="An image's embedding", responses=ERRORS, openapi_extra=embed, **post)
    attention = _body(AttentionFields, FORM, JSON)
    add("/attention", routes.overlay, summary="Where the model looks", openapi_extra=attention, **image, **post)


def _body(model: type[EmbedFields], *kinds: str) -> dict[str, Any]:
    """Return the description of a request body; FastAPI itself describes bodies of one content type only."""
    content = {kind: {"schema": model.model_json_schema()} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def _page(name: str, media_type: str) -> Callable[[], Response]:
    """Return a route that answers with a file of static/, read once."""
    content = (files(__package__) / "static" / name).read_bytes()

    def page() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return page


def fields_of(model: type[Fields]) -> Callable[[Request], Awaitable[Fields]]:
    """Return a FastAPI dependency that reads the model from a JSON body or a form.

    Raises:
        RequestError: 415, the body is neither.
        RequestValidationError: a field is not accepted.
        HTTPException: 400, the form cannot be read.
    """

    async def read(request: Request) -> Fields:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind == JSON:
                return model.model_validate_json(await request.body())
            if kind == FORM:
                return model.model_validate(await _form_fields(request))
        except ValidationError as error:
            errors = [{**found, "loc": ("body", *found["loc"])} for found in error.errors(include_url=False)]
            raise RequestValidationError(errors) from error
        raise RequestError(415, f"expected {FORM} with an image, or {JSON} with an id or a vector")

    return read


async def _form_fields(request: Request) -> dict[str, Any]:
    """Return the fields of a form, files as bytes; a field that is given several times as a list."""
    fields: dict[str, list[Any]] = {}
    async with request.form(max_files=1, max_fields=64) as form:
        for name, value in form.multi_items():
            fields.setdefault(name, []).append(await value.read() if isinstance(value, UploadFile) else value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


SearchBody = Annotated[SearchFields, Depends(fields_of(SearchFields))]
EmbedBody = Annotated[EmbedFields, Depends(fields_of(EmbedFields))]
AttentionBody = Annotated[AttentionFields, Depends(fields_of(AttentionFields))]


class Routes:
    """One method per route."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service, self.limits = service, limits
        self._decoders = anyio.CapacityLimiter(NUM_DECODERS)
        self._overlays = anyio.CapacityLimiter(NUM_OVERLAYS)

    def health(self) -> Response:
        """Report that the server is up; needs no token."""
        return _as_json({"status": "ok", "version": __version__})

    def facets(self) -> Response:
        """Return the gallery's size, cameras, times and threshold, and the limits of an upload."""
        limits = {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels}
        return _as_json({**self.service.facets(), **limits})

    def image(self, id: Annotated[int, Path(ge=0, le=MAX_ID)]) -> Response:
        """Send the image file of a row's record."""
        return _as_image(self.service.image(id), "private, max-age=600")

    async def search(self, fields: SearchBody) -> Response:
        """Rank the gallery by the distance to an uploaded image, to one of its rows, or to an embedding."""
        vector = None if fields.vector is None else np.asarray(fields.vector, np.float32)
        if fields.image is not None:
            vector = await self._embed(fields)
        return _as_json(await _in_thread(lambda: self.service.search(fields, vector)))

    async def embed(self, fields: EmbedBody) -> Response:
        """Return the embedding of an uploaded image, as /search accepts it."""
        vector = await self._embed(fields)
        return _as_json({"vector": vector, "dimension": len(vector), "model": self.service.gallery.info.model})

    async def overlay(self, fields: AttentionBody) -> Response:
        """Draw the model's attention over an uploaded image or that of a row; bright areas have the most attention."""
        async with self._overlays:  # a request that waits here holds no pixels yet
            pixels = await self._pixels(fields.image, fields.id)
            return _as_image(await _in_thread(lambda: self.service.overlay(pixels, fields.camera)), "no-store")

    async def _embed(self, fields: EmbedFields) -> np.ndarray:
        job = self.service.batcher.submit(await self._pixels(fields.image, None), fields.camera)
        return np.asarray(await asyncio.wrap_future(job), np.float32)

    async def _pixels(self, content: bytes | None, id: int | None) -> np.ndarray:
        if content is not None:
            return await _in_thread(lambda: decode(content, self.limits.max_pixels), self._decoders)
        assert id is not None  # for the type checker: the fields hold one of the two
        return await _in_thread(lambda: read_pixels(self.service.image(id)), self._decoders)


async def _in_thread(action: Callable[[], T], limiter: anyio.CapacityLimiter | None = None) -> T:
    return await anyio.to_thread.run_sync(action, limiter=limiter)


def _as_image(file: ImageFile, cache: str) -> Response:
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": cache})


def _as_json(value: dict[str, Any]) -> Response:
    """Return a JSON response: NumPy values as lists and numbers, NaN and infinity as null, dates as ISO 8601."""
    content = to_json(value, inf_nan_mode="null", bytes_mode="base64", fallback=_from_numpy)
    return Response(content, media_type=JSON)


def _from_numpy(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _sentence(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"detail": sentence.encode("utf-8", "replace").decode()}, status, headers)


def _not_valid(_: Request, error: Any) -> JSONResponse:
    found = error.errors()[0]
    return _sentence(400 if found["type"] == "json_invalid" else 422, explain(found))


def _failed(request: Request, error: Any) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = {name.decode(): value.decode() for name, value in HEADERS}  # this response does not pass through Guard
    return _sentence(500, "the server failed at this request; its log has the reason", headers)


HANDLERS: dict[Any, Any] = {
    RequestError: lambda _, error: _sentence(error.status, error.sentence, error.headers),
    RequestValidationError: _not_valid,
    RecordImageError: lambda _, error: _sentence(404, str(error)),
    HTTPException: lambda _, error: _sentence(error.status_code, str(error.detail), error.headers),
    ClientDisconnect: lambda _, __: _sentence(400, "the connection closed before the request was complete"),
    Exception: _failed,
}
