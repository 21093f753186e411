"""One writer at a time in a Milvus gallery, which has no locks: each writer's entry stands next to the metadata."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

LEASE = 300.0  # seconds after which the entry of a program that no longer renews it counts for nothing
_HELD: set[int] = (
    set()
)  # ids of the entries of this process; others of its number are left from a call that lost the server
TRIES, PAUSE = 6, 0.3  # attempts to be alone, and the longest time between two of them, seconds


class WriterEntry:
    """Keeps other writers out of a gallery within its `with`, which may be nested.

    A writer adds its entry and reads all entries. It writes only if it finds no other: of two writers that come at once, the one
    whose entry is later sees that of the other, since reads are strongly consistent.

    Args:
        client, collection: the collection of the gallery's metadata.
        path: of the gallery, for messages.
    """

    def __init__(self, client: Any, collection: str, path: str) -> None:
        self.client, self.collection, self.path = client, collection, path
        self._id, self._depth, self._until = secrets.randbits(62) + 1, 0, 0.0  # 0 is the id of the metadata

    def __enter__(self) -> WriterEntry:
        if self._depth == 0:
            self._enter()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            _HELD.discard(self._id)
            with suppress(OSError):  # the server is gone: the entry ends with its lease
                self.client.delete(self.collection, ids=[self._id])

    def renew(self) -> None:
        """Extend the lease, if half of it is over; called between the parts of a long write."""
        if time.time() > self._until - LEASE / 2:
            self._announce()

    def _enter(self) -> None:
        holder = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(random.uniform(PAUSE / 10, PAUSE))  # nosec B311 - a pause, no secret
            self._announce()
            holder = self._other()
            if not holder:
                return
            _HELD.discard(self._id)
            self.client.delete(self.collection, ids=[self._id])
        raise self._blocked(holder)

    def check(self) -> None:
        """Raise BlockingIOError if another writer holds the gallery."""
        if holder := self._other():
            raise self._blocked(holder)

    def _blocked(self, holder: str) -> BlockingIOError:
        return BlockingIOError(
            f"{self.path} is being written by {holder}; wait until it is done, or stop it: its entry counts for {LEASE / 60:g} more minutes "
            "at most"
        )

    def _announce(self) -> None:
        self._until = time.time() + LEASE
        _HELD.add(self._id)
        entry = {"writer": os.getpid(), "host": socket.gethostname(), "until": self._until}
        entry["program"] = Path(sys.argv[0]).name or "python"
        self.client.upsert(self.collection, [{"id": self._id, "vector": [0.0, 0.0], "text": json.dumps(entry)}])

    def _other(self) -> str:
        """Return the name of another living writer; empty = there is none. Entries of dead ones are deleted."""
        for row in self.client.query(self.collection, filter="id > 0", output_fields=["id", "text"]):
            if row["id"] == self._id:
                continue
            entry = json.loads(row["text"])
            if _is_alive(row["id"], entry):
                return f"process {entry['writer']} ({entry['program']}) on {entry['host']}"
            self.client.delete(self.collection, ids=[row["id"]])
        return ""


def _is_alive(number: int, entry: dict[str, Any]) -> bool:
    """Return whether the writer of an entry may still write: its lease runs, and its process, if of this machine, exists."""
    if entry["until"] < time.time():
        return False
    if entry["host"] != socket.gethostname() or os.name == "nt":  # there, the signal 0 would end the process
        return True
    if entry["writer"] == os.getpid():
        return number in _HELD
    try:
        os.kill(entry["writer"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
