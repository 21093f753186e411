"""Checks before every request (host name, token, rate, size of the body) and headers of every response.

Starlette's TrustedHostMiddleware answers in plain text, without the host name to add; fastapi's HTTPBearer guards known routes only.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits, RateLimit
from .request_error import RequestError

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class Guard:
    """ASGI middleware around the application.

    Args:
        limits: what is checked.
        open_paths: paths that need no token.
        costly_paths: paths that the rate limit counts.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, open_paths: Collection[str], costly_paths: Collection[str]
    ) -> None:
        self.app, self.limits, self.rate = app, limits, RateLimit(limits.rate)
        self._open, self._costly = open_paths, costly_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        try:
            self._check(scope, Headers(scope=scope))
        except RequestError as error:
            response = JSONResponse({"detail": error.sentence}, error.status, error.headers)
            await response(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = _name(headers.get("host", ""))
        if self.limits.hosts and host not in self.limits.hosts:
            raise RequestError(
                421,
                f"this server answers to {', '.join(self.limits.hosts)}, not to {host!r}; start it with --name {host}",
            )
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # the application may be mounted below a path
        if self.limits.token and path not in self._open:
            _check_token(self.limits.token, headers.get("authorization", ""))
        if path in self._costly and (seconds := self.rate.wait((scope.get("client") or ("",))[0])):
            wait = math.ceil(seconds)
            raise RequestError(429, f"too many requests; try again in {wait} s", {"Retry-After": str(wait)})
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise RequestError(400, "Content-Length is not a number of bytes")
        self._check_size(int(length[:19]))

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.limits.max_bytes:
            limit = self.limits.max_bytes / 1e6
            raise RequestError(413, f"the request is larger than {limit:g} MB; send the crop of the person alone")

    def _counting(self, receive: Receive) -> Receive:
        """Return `receive` that refuses a body as soon as it exceeds the limit, also without a Content-Length."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            self._check_size(seen)
            return message

        return counted


def _name(host: str) -> str:
    """Return the host without its port.

    >>> _name("localhost:8000"), _name("[::1]:8000"), _name("Example.org")
    ('localhost', '[::1]', 'example.org')
    """
    end = host.find("]") + 1 if host.startswith("[") else host.find(":")
    return (host[:end] if end > 0 else host).lower()


def _check_token(token: str, header: str) -> None:
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        what = "wrong token" if given else "this server needs a token"
        raise RequestError(401, f"{what}; send it as 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return wrapped
