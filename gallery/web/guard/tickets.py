"""Addresses that carry a permission, for some time: the player of a browser cannot send a token."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable

SECONDS = 3600


class Tickets:
    """Makes and checks tickets; those of an earlier process are not valid.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key, self._clock = secrets.token_bytes(32), clock

    def issue(self, path: str) -> str:
        """Return a ticket for GET requests of a path, for SECONDS."""
        end = int(self._clock()) + SECONDS
        return f"{end}-{self._sign(path, end)}"

    def accepts(self, path: str, ticket: str) -> bool:
        """Return whether the ticket is one for this path, and still valid."""
        end, _, signature = ticket.partition("-")
        if not end.isascii() or not end.isdecimal() or len(end) > 12 or int(end) < self._clock():
            return False
        return hmac.compare_digest(signature.encode(), self._sign(path, int(end)).encode())

    def _sign(self, path: str, end: int) -> str:
        return hmac.new(self._key, f"{end} {path}".encode(), "sha256").hexdigest()
