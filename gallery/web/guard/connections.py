"""Connections of the web server: deadlines for what a client has to send, and a limit of their number.

uvicorn alone waits for ever for the rest of a request, and accepts connections until no file can be opened any more.
"""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .middleware import BODY_SECONDS, STOP

HEAD_SECONDS = 10.0  # for the head of a request, for the next one, and for a client that takes nothing of a response
BODY_GRACE = 5.0  # seconds after BODY_SECONDS, in which the application answers with a sentence
MOST = 1000  # connections
LEAST = 8
ACCEPTED = 16  # connections accepted at once; so many more files may be open for a moment
RESERVED = 48  # files that requests open, and ACCEPTED
HEAD_PIECE = 4096  # bytes looked at until the head is complete


class Connections:
    """The open connections.

    A new one beyond `most` replaces the one that has waited longest without a complete request: first those that never
    sent one, then those between two requests. A connection whose request is at work is never closed.

    Args:
        most: number of connections.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._new: dict[Connection, None] = {}  # oldest first
        self._idle: dict[Connection, None] = {}
        self._busy: dict[Connection, None] = {}

    def __len__(self) -> int:
        """Return their number."""
        return len(self._new) + len(self._idle) + len(self._busy)

    def admit(self, connection: Connection) -> bool:
        """Add a connection; return False if there is no room for it."""
        if len(self) >= self.most:
            oldest = next(iter(self._new or self._idle), None)
            if oldest is None:
                return False
            self.forget(oldest)
            oldest.abort()
        self._new[connection] = None
        return True

    def move(self, connection: Connection, is_busy: bool) -> None:
        """Note that a connection's request is complete, or that its response is."""
        if connection in self._busy if is_busy else connection not in self._busy:
            return
        if self.forget(connection):
            (self._busy if is_busy else self._idle)[connection] = None

    def forget(self, connection: Connection) -> bool:
        """Remove a connection; return whether it was there."""
        for group in (self._new, self._idle, self._busy):
            if connection in group:
                del group[connection]
                return True
        return False


class ConnectionStage(Enum):
    """What a connection waits for."""

    HEAD = "the client: the head of a request"
    BODY = "the client: the rest of the body"
    ANSWER = "the application"


class Connection(H11Protocol):
    """One connection; closed if the client is too slow.

    Args:
        pool: the connections among which it counts.
        others: as uvicorn gives them.
    """

    def __init__(self, pool: Connections, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self._pool = pool
        self._stage: tuple[ConnectionStage, object] | None = None  # and its request
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        if self._pool.admit(self):
            self._note()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the pool; a request that nobody waits for any more is stopped."""
        self._pool.forget(self)
        self._set_timer(None)
        scope: dict[str, Any] = {**self.scope} if self.scope else {}
        if self.cycle is not None and not self.cycle.response_complete and STOP in scope:
            scope[STOP]()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read requests; the body of one that has no Content-Length is left alone, because its parts cost too much."""
        while data and not self.transport.is_closing() and not self._is_refused():
            piece = data[:HEAD_PIECE] if self._awaits_head() else data
            data = data[len(piece) :]
            super().data_received(piece)

    def _awaits_head(self) -> bool:
        """Return whether what comes is a head; after a refusal the rest of the body may come first, which is dropped."""
        return self._now()[0] is ConnectionStage.HEAD and self.conn.their_state is not h11.SEND_BODY

    def _is_refused(self) -> bool:
        """Return whether the middleware refuses this request, so that its body is not read."""
        return self._now()[0] is ConnectionStage.BODY and any(name == b"transfer-encoding" for name, _ in self.headers)

    def handle_events(self) -> None:
        """Read what has arrived, and start the deadline of what is missing."""
        super().handle_events()
        self._note()

    def on_response_complete(self) -> None:
        """Start the deadline of the next request."""
        super().on_response_complete()
        self._note()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _now(self) -> tuple[ConnectionStage, object]:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return ConnectionStage.HEAD, cycle
        return (ConnectionStage.BODY if cycle.more_body else ConnectionStage.ANSWER), cycle

    def _note(self) -> None:
        """Move to the present stage; its deadline starts when it does."""
        now = self._now()
        if now != self._stage:
            self._stage = now
            self._pool.move(self, is_busy=now[0] is ConnectionStage.ANSWER)
            self._set_timer(
                {
                    ConnectionStage.HEAD: HEAD_SECONDS,
                    ConnectionStage.BODY: BODY_SECONDS + BODY_GRACE,
                    ConnectionStage.ANSWER: HEAD_SECONDS,
                }[now[0]]
            )

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        """Close the connection, unless the application is at work or the client is still reading the last response.

        asyncio alone keeps a closed connection until its client has taken all that was sent.
        """
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        is_at_work = self._now()[0] is ConnectionStage.ANSWER and not self.transport.is_closing()
        if is_at_work or (self._unsent and self._unsent != before):
            self._set_timer(HEAD_SECONDS)
        else:
            self.abort()


def room_for_connections() -> int:
    """Return how many connections the limit of open files permits, MOST at most."""
    try:
        import resource  # not on Windows
    except ModuleNotFoundError:
        return MOST
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST
    return max(LEAST, min(MOST, limit - _num_open() - RESERVED))


def _num_open() -> int:
    """Return the number of open files of this process."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return RESERVED
