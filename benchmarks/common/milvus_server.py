"""A Milvus server of this machine, from the package `milvus`: started, killed and started again."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from vitreid.common.errors import MissingPackageError

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
    """Return a port of the loopback address that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
