"""Checks before every request (host name, token, rate, size of the body), its deadlines, and headers of every response.

Starlette's TrustedHostMiddleware answers in plain text, without the host name to add; fastapi's HTTPBearer guards known routes only.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Collection
from ipaddress import ip_address

import anyio
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..request_error import RequestError
from .limits import Limits, RateLimit, client_of
from .tickets import Tickets

BODY_SECONDS = 30.0  # for the arrival of a request's body
ANSWER_SECONDS = 60.0  # from the head of a request to the head of its response
SEND_SECONDS = 30.0  # for a client to take the next part of a response
MOST_BYTES = 256_000_000  # of the bodies that all requests hold at the same time
GUESSES, GUESSES_PER_SECOND = 10, 0.2  # wrong tokens of a client
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
STOP = "vitreid.stop"  # key of the scope: function that stops the request, for the server that knows when its client has gone
CLOSE = {"Connection": "close"}  # the rest of a refused body is not read


class Guard:
    """ASGI middleware around the application.

    Args:
        limits: what is checked.
        open_paths: paths that need no token.
        costly_paths: paths that the rate limit counts.
        tickets: permissions in an address, in place of the token.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, open_paths: Collection[str], costly_paths: Collection[str], tickets: Tickets
    ) -> None:
        self.app, self.limits, self.rate = app, limits, RateLimit(limits.rate)
        self.guesses = RateLimit(GUESSES_PER_SECOND, GUESSES)
        self._open, self._costly, self._tickets = open_paths, costly_paths, tickets
        self._bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response = _Response(send)
        try:
            self._check(scope, Headers(scope=scope))
            await self._answer(scope, _Body(self, receive), response)
        except RequestError as error:
            with anyio.move_on_after(SEND_SECONDS):  # responses to earlier requests may not have been taken
                await JSONResponse({"detail": error.sentence}, error.status, error.headers)(
                    scope, receive, response.send
                )

    async def _answer(self, scope: Scope, body: _Body, response: _Response) -> None:
        """Run the application for at most ANSWER_SECONDS until it answers."""
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + ANSWER_SECONDS) as response.limit:
                scope[STOP] = response.limit.cancel
                await self.app(scope, body.receive, response.send)
        finally:
            self._bytes_held -= body.num_bytes
        if response.limit.cancelled_caught and not response.has_started:  # else the server closes the connection
            raise RequestError(
                503, f"no answer within {ANSWER_SECONDS:g} s; the server is busy, try again", {"Retry-After": "10"}
            )

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(_name(headers.get("host", "")))
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # the application may be mounted below a path
        client = client_of((scope.get("client") or ("",))[0])
        if self.limits.token and path not in self._open and not self._has_ticket(scope, path):
            self._check_token(self.limits.token, headers.get("authorization", ""), client)
        if path in self._costly:
            _check_wait(self.rate.wait(client), "requests")
        if "transfer-encoding" in headers:  # each part, perhaps of one byte, would cost as much as a request's head
            raise RequestError(411, "send the body with a Content-Length, not in parts", CLOSE)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise RequestError(400, "Content-Length is not a number of bytes", CLOSE)
        self._check_size(int(length[:19]))

    def _check_host(self, host: str) -> None:
        """Refuse names of other sites that lead to this server (DNS rebinding); an address belongs to no site."""
        if self.limits.hosts and host not in self.limits.hosts and not _is_address(host):
            raise RequestError(
                421,
                f"this server answers to {', '.join(self.limits.hosts)}, not to {host!r}; start it with --name {host}",
            )

    def _has_ticket(self, scope: Scope, path: str) -> bool:
        ticket = QueryParams(scope["query_string"]).get("ticket", "")
        return bool(ticket) and scope["method"] == "GET" and self._tickets.accepts(path, ticket)

    def _check_token(self, token: str, header: str, client: str) -> None:
        scheme, _, given = header.partition(" ")
        is_given = scheme.lower() == "bearer" and bool(given.strip())
        if is_given:  # also the right one has to wait: an answer at once would reveal it
            _check_wait(self.guesses.remaining_wait(client), "wrong tokens")
            if hmac.compare_digest(given.strip().encode(), token.encode()):
                return
            self.guesses.wait(client)
        what = "wrong token" if is_given else "this server needs a token"
        raise RequestError(401, f"{what}; send it as 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.limits.max_bytes:
            limit = self.limits.max_bytes / 1e6
            raise RequestError(413, f"the request is larger than {limit:g} MB; send the crop of the person alone")

    def hold(self, num_bytes: int, num_new: int) -> None:
        """Count `num_new` more bytes of a body that has `num_bytes`.

        Raises:
            RequestError: 413, the body is too large; 503, too many bytes are held.
        """
        self._bytes_held += num_new
        self._check_size(num_bytes)
        if self._bytes_held > MOST_BYTES:
            raise RequestError(503, "the server is busy; try again in a moment", {"Retry-After": "1", **CLOSE})


class _Body:
    """The body of a request, counted while it arrives."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.num_bytes = 0
        self._guard, self._receive = guard, receive
        self._end = anyio.current_time() + BODY_SECONDS
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next message; a `RequestError` as soon as the body exceeds a limit, also without a Content-Length."""
        if self._is_complete:  # waits for the end of the connection
            return await self._receive()
        with anyio.CancelScope(deadline=self._end):
            message = await self._receive()
            num_new = len(message.get("body", b""))
            self.num_bytes += num_new
            self._guard.hold(self.num_bytes, num_new)
            self._is_complete = not message.get("more_body", False)
            return message
        raise RequestError(408, f"the body did not arrive within {BODY_SECONDS:g} s; send it again", CLOSE)


class _Response:
    """The way of a response to the client."""

    def __init__(self, send: Send) -> None:
        self.limit, self.has_started = anyio.CancelScope(), False
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a message, the head with HEADERS; the application is stopped if the client does not take it in SEND_SECONDS."""
        if message["type"] == "http.response.start":
            self.has_started = True
            message["headers"] = [*message.get("headers", []), *HEADERS]
        self.limit.deadline = anyio.current_time() + SEND_SECONDS
        await self._send(message)
        self.limit.deadline = anyio.current_time() + ANSWER_SECONDS


def _check_wait(seconds: float, what: str) -> None:
    if seconds:
        wait = math.ceil(seconds)
        raise RequestError(429, f"too many {what}; try again in {wait} s", {"Retry-After": str(wait)})


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """Return the host without its port.

    >>> _name("localhost:8000"), _name("[::1]:8000"), _name("Example.org")
    ('localhost', '[::1]', 'example.org')
    """
    end = host.find("]") + 1 if host.startswith("[") else host.find(":")
    return (host[:end] if end > 0 else host).lower()
