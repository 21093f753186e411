"""A Milvus server of this machine, from the package `milvus`: started, killed and started again."""

from __future__ import annotations

import logging
import random
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from vitreid.common.errors import MissingPackageError

CLOSING = 90.0  # seconds, at most, for which the system keeps the port of a killed server
PASSWORD = "root:Milvus"  # of a new server that asks for one


class LocalMilvus:
    """A server with its data in `folder`; a `with` starts and ends it.

    Args:
        asks: whether it asks for a password, PASSWORD.
    Raises:
        MissingPackageError: the package is not installed.
    """

    def __init__(self, folder: Path, asks: bool = False) -> None:
        try:
            from milvus import MilvusServer
        except ImportError as error:
            raise MissingPackageError(
                'a local server needs the package milvus: pip install "vitreid[milvus-server]"'
            ) from error
        logging.getLogger("milvus").setLevel(logging.WARNING)
        self.port = free_port()
        self._server: Any = MilvusServer(proxy_port=self.port)
        self._server.set_base_dir(str(folder))
        if asks:
            self._server.config.set("common.security.authorizationEnabled", "true")

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, with the data of its folder, and wait until it answers; on its earlier port."""
        until = time.monotonic() + CLOSING
        while not is_free(self.port) and time.monotonic() < until:  # connections of a killed server are still closing
            time.sleep(0.5)
        try:
            self._server.start()
        except BaseException:
            self._server.stop()
            raise

    def kill(self) -> None:
        """End the server at once, as a crash does."""
        self._server.server_proc.kill()
        self._server.server_proc.wait()
        self._server.stop()

    def __enter__(self) -> LocalMilvus:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()


def free_port() -> int:
    """Return a port that nothing listens at, below those that the system gives to clients: one of them could take it meanwhile."""
    ports = random.Random().sample(range(20_000, 30_000), 100)  # nosec B311 - no secrets
    return next(port for port in ports if is_free(port))


def is_free(port: int) -> bool:
    """Return whether a server can listen at a port."""
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True
