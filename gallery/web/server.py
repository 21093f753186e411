"""Run the application with uvicorn: the port is taken first, connections and log are bounded."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn

from ...common.errors import UserError
from .guard.connections import ACCEPTED, Connection, Connections, room_for_connections
from .guard.quiet_log import quiet_logging

QUEUE = 4096  # connections that the system keeps until they are accepted; Linux drops what comes beyond, for a second or more
STOP_SECONDS = 5  # for requests at work, after Ctrl-C
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # constants of malloc.h
LARGE_BLOCK, KEPT = 2**25, 2**26  # bytes
REASONS = {
    errno.EADDRINUSE: "is in use by another program; stop it, choose another port, or 0 for any free one",
    errno.EACCES: "may not be used without special rights; choose one above 1023",
}


@contextmanager
def listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Yield listening sockets: one per address of the host, all with the same port; 0 = any free port.

    Raises:
        UserError: the port is in use or may not be used, or the host is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host: {host!r} is no address or name of this machine ({error})") from error
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            number = sockets[0].getsockname()[1] if sockets else port
            sockets.append(stack.enter_context(_listen((address[0], number), family)))
        yield sockets


def _listen(address: tuple[Any, ...], family: int) -> socket.socket:
    try:
        return socket.create_server(address, family=family, backlog=QUEUE)
    except OSError as error:
        if error.errno in REASONS:
            raise UserError(f"--port: {address[1]} {REASONS[error.errno]}") from error
        reason = os.strerror(error.errno or 0).lower()
        raise UserError(f"--host: this machine cannot listen on {address[0]} ({reason})") from error


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to an address.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def address_of(host: str, port: int) -> str:
    """Return the URL of the server.

    >>> address_of("::1", 8000), address_of("example.org", 80)
    ('http://[::1]:8000/', 'http://example.org:80/')
    """
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def run(app: Any, sockets: Sequence[socket.socket], proxies: Sequence[str], ready: Callable[[], object]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        app: the ASGI application.
        sockets: as `listening` yields them.
        proxies: addresses whose `X-Forwarded-For` names the client; from all others anybody could write it.
        ready: called once requests are answered.
    """
    quiet_logging()
    _bound_free_memory()
    with suppress(KeyboardInterrupt):  # uvicorn has ended in order, and passes the signal on
        Server(app, sockets, Connections(room_for_connections()), proxies, ready).run(list(sockets))


def _bound_free_memory() -> None:
    """Let glibc keep about KEPT bytes of free memory for the next request, in one place for all threads.

    Pages that go back to the system are cleared when they come again: with blocks of 128 kB and more going back at once, half of
    the time of a pass through the model went into that. glibc's own rule keeps free memory in an arena per thread, without
    a limit for all of them. Blocks of LARGE_BLOCK and more, its highest limit, always go back.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system or C library
        library = ctypes.CDLL(None)
        for name, value in ((MMAP_THRESHOLD, LARGE_BLOCK), (TRIM_THRESHOLD, KEPT), (ARENA_MAX, 1)):
            library.mallopt(name, value)


class Server(uvicorn.Server):
    """uvicorn with our connections; arguments as for `run`, and the pool of connections."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        pool: Connections,
        proxies: Sequence[str] = (),
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=partial(Connection, pool),  # type: ignore[arg-type]
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=",".join(proxies) or None,
            backlog=ACCEPTED,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self._listening, self._ready = sockets, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then let the system queue more connections than are accepted at once."""
        await super().startup(sockets)
        for sock in self._listening:
            sock.listen(QUEUE)
        if self.started:
            self._ready()
