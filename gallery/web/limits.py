"""Limits of requests: token, size, rate."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...common.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Token, sizes, rate and host names; see `create_app`.

    Raises:
        ValueError: a limit is not positive, or the token is empty, not plain ASCII, or begins or ends with a space.
    """

    token: str | None = None
    max_bytes: int = 10_000_000
    max_pixels: int = 25_000_000
    rate: float | None = None
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}: expected a number above 0, got {value}")
        token = self.token  # is sent as a header's value, unchanged
        if token is not None and not (token and token.isascii() and token.isprintable() and token == token.strip()):
            raise UserError(
                "token: expected printable ASCII characters without a space at either end; leave it out for no token"
            )


class RateLimit:
    """A token bucket per client: it holds `2 * rate` requests, at least one, and refills by `rate` per second.

    Args:
        rate: requests per second; None = no limit.
        clock: the time in seconds.
        max_clients: buckets kept; the least recently used is dropped first.
    """

    def __init__(
        self, rate: float | None, clock: Callable[[], float] = time.monotonic, max_clients: int = 10_000
    ) -> None:
        self.rate, self.size = rate, max(1.0, 2 * (rate or 0))
        self._clock, self._max_clients = clock, max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, time)
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take one request from the client's bucket; return 0, or the seconds to wait if it is empty."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            left, before = self._buckets.pop(client, (self.size, now))
            left = min(self.size, left + (now - before) * self.rate)
            allowed = left >= 1
            self._buckets[client] = (left - allowed, now)
            if len(self._buckets) > self._max_clients:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate
