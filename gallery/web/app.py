"""The application: its pages and routes, and how errors are answered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ... import __version__
from ..keeping.search_audit import SearchAudit
from ..storage.embeddings_file import CutShortError
from ..storage.record_images import RecordImageError
from .batcher import Embed
from .guard.limits import Limits
from .guard.middleware import HEADERS, Guard
from .guard.tickets import Tickets
from .models import ERRORS, AttentionFields, CheckedFields, EmbedFields, SearchFields, explain
from .people.people_routes import PeopleRoutes
from .request_body import FORM, JSON
from .request_error import RequestError
from .routes import Routes
from .service import Service

STATIC = files(__package__) / "static"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGES = {  # address: file; all of them come from this server, so the pages need no internet
    "/": "page.html",
    "/people": "people.html",
    "/docs": "docs.html",  # FastAPI's own page of the API loads scripts from another site
    **{f"/{file.name}": file.name for file in STATIC.iterdir() if Path(file.name).suffix in KINDS.keys() - {".html"}},
}
OPEN = {*PAGES, "/openapi.json", "/health"}  # readable without a token: they hold no personal data
COSTLY = {"/search", "/embed", "/attention"}  # counted by the rate limit, with what `PeopleRoutes.posts` lists
ABOUT = (
    "Who else in the gallery is this person? Distances are measured by the gallery's metric. A result is the same person "
    "if its distance is at most the gallery's threshold, different if it is larger, unknown if the gallery has no threshold."
)
logger = logging.getLogger(__name__)


def build_app(
    gallery: Any,
    embedder: Embed,
    limits: Limits,
    batch_size: int,
    audit: SearchAudit | None = None,
    decide: bool = False,
    enrol: bool = False,
) -> FastAPI:
    """Return the application; see `vitreid.gallery.web.create_app`."""
    service, tickets = Service(gallery, embedder, batch_size), Tickets()
    routes = Routes(service, limits, tickets, audit)
    people = PeopleRoutes(service, decide, enrol, routes.embedded, routes.embedded_kept, routes.record)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.batcher.close()
        await people.close()

    app = FastAPI(
        title="vitreid gallery",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        Guard, limits=limits, open_paths=OPEN, costly_paths=COSTLY | people.posts().keys(), tickets=tickets
    )
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)
    for path, name in PAGES.items():
        app.add_api_route(path, _page(name), include_in_schema=False)
    _add_routes(app, routes)
    _add_people(app, people)
    return app


def _add_routes(app: FastAPI, routes: Routes) -> None:
    add = app.add_api_route
    image = _file("image/*", "the image")
    add("/health", routes.health, summary="Is the server up?")
    add("/facets", routes.facets, summary="Size, cameras, times and threshold of the gallery", responses=ERRORS)
    add("/image/{id}", routes.image, summary="The image of a row", **image)
    add("/sighting/{id}", routes.sighting, summary="The part of a recording that a row shows", responses=ERRORS)
    add("/crop/{id}/{frame}", routes.crop, summary="A stored crop of a row's track", **image)
    add(
        "/video/{id}",
        routes.video,
        summary="The recording of a row",
        **_file("video/*", "the recording, or a range of it"),
    )
    post: dict[str, Any] = {"methods": ["POST"]}
    search, embed = _body(SearchFields, FORM, JSON), _body(EmbedFields, FORM)
    add("/search", routes.search, summary="The closest people", responses=ERRORS, openapi_extra=search, **post)
    add("/embed", routes.embed, summary="An image's embedding", responses=ERRORS, openapi_extra=embed, **post)
    attention = _body(AttentionFields, FORM, JSON)
    add("/attention", routes.overlay, summary="Where the model looks", openapi_extra=attention, **image, **post)


def _add_people(app: FastAPI, routes: PeopleRoutes) -> None:
    add = app.add_api_route
    for path, route, summary in (
        ("state", routes.state, "Numbers of people and decisions"),
        ("groups", routes.groups, "The people, as stacks of rows"),
        ("group", routes.group, "The rows of a person"),
        ("questions", routes.questions, "What to ask next"),
        ("decisions", routes.log, "Who decided what, and when"),
    ):
        add(f"/people/{path}", route, summary=summary, responses=ERRORS)
    for path, post in routes.posts().items():
        body = _bodies(post.bodies)
        add(path, post.answer, summary=post.summary, responses=ERRORS, openapi_extra=body, methods=["POST"])


def _file(kind: str, what: str) -> dict[str, Any]:
    """Return the description of a route that answers with a file; a range of it has the status 206."""
    content = {"content": {kind: {}}, "description": what}
    return {"response_class": Response, "responses": {200: content, 206: content, **ERRORS}}


def _body(model: type[CheckedFields], *kinds: str) -> dict[str, Any]:
    """Return the description of a request body; FastAPI itself describes bodies of one content type only."""
    return _bodies(dict.fromkeys(kinds, model))


def _bodies(models: Mapping[str, type[CheckedFields]]) -> dict[str, Any]:
    """Return the description of a request body whose fields depend on its content type."""
    content = {kind: {"schema": model.model_json_schema()} for kind, model in models.items()}
    return {"requestBody": {"required": True, "content": content}}


def _page(name: str) -> Callable[[], Awaitable[Response]]:
    """Return a route that answers with a file of static/, read once."""
    content, kind = (STATIC / name).read_bytes(), KINDS[Path(name).suffix]

    async def page() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return page


def _sentence(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"detail": sentence.encode("utf-8", "replace").decode()}, status, headers)


def _not_valid(error: Any) -> JSONResponse:
    found = error.errors()[0]
    return _sentence(400 if found["type"] == "json_invalid" else 422, explain(found))


def _failed(request: Request, error: Any) -> JSONResponse:
    logger.error("%s %r failed", request.method, request.url.path, exc_info=error)
    headers = {name.decode(): value.decode() for name, value in HEADERS}  # this response does not pass through Guard
    return _sentence(500, "the server failed at this request; its log has the reason", headers)


def _refusing(answer: Callable[[Any], Response]) -> Callable[[Request, Any], Response]:
    """Return an exception handler that also lets go of the frames in which a body or an image is still held."""

    def handle(_: Request, error: Any) -> Response:
        response = answer(error)
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__
        return response

    return handle


HANDLERS: dict[Any, Any] = {
    RequestError: _refusing(lambda error: _sentence(error.status, error.sentence, error.headers)),
    RequestValidationError: _refusing(_not_valid),
    CutShortError: _refusing(lambda error: _sentence(503, f"the gallery is damaged; {error}")),
    RecordImageError: _refusing(lambda error: _sentence(404, str(error))),
    HTTPException: _refusing(lambda error: _sentence(error.status_code, str(error.detail), error.headers)),
    ClientDisconnect: _refusing(lambda _: _sentence(400, "the connection closed before the request was complete")),
    Exception: _failed,
}
