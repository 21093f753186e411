"""A gallery's web server in a thread, with our connections, for tests that speak to it through sockets."""

import socket
import threading
import time
from contextlib import contextmanager

from vitreid.gallery.web import server as web_server
from vitreid.gallery.web.guard.connections import Connections

PATIENCE = 60  # seconds


@contextmanager
def live(app, most=100, proxies=()):
    """Serve an application; yield its port and its connections."""
    pool = Connections(most)
    with web_server.listening("127.0.0.1", 0) as sockets:
        server = web_server.Server(app, sockets, pool, proxies)
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=server.run, args=(list(sockets),), daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        try:
            yield sockets[0].getsockname()[1], pool
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server does not stop"


def wait_until(condition):
    """Wait for a condition; AssertionError after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not so within {PATIENCE} s"
        time.sleep(0.005)


def connect(port, content=b"", source="127.0.0.1"):
    """Return a connection on which `content` was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
    connection.sendall(content)
    return connection


def request(method, path, body=b"", **headers):
    """Return the bytes of a request."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    length = [f"Content-Length: {len(body)}"] if body and "Transfer_Encoding" not in headers else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, *length, "", ""]).encode() + body


def answer(connection):
    """Read one response; return its status, and its body."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    length = 0
    while line := file.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, file.read(length)


def is_closed(connection):
    """Wait until the server closes the connection; what it still sends is read."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
