"""What a request may cost."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...common.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Who may ask, how much and how often; see `create_app`.

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
        if self.token is not None and not _is_token(self.token):
            raise UserError(
                "token: expected some printable ASCII characters, no space first or last; leave it out to ask for none"
            )


def _is_token(text: str) -> bool:
    """Return whether a header can carry the text as it is."""
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


class RateLimit:
    """A bucket per client that holds `2 * rate` requests, at least one, and fills by `rate` per second.

    Args:
        rate: requests per second; None = no limit.
        clock: seconds.
        max_clients: buckets kept; the one that was used longest ago goes first.
    """

    def __init__(
        self, rate: float | None, clock: Callable[[], float] = time.monotonic, max_clients: int = 10_000
    ) -> None:
        self.rate, self.size = rate, max(1.0, 2 * (rate or 0))
        self._clock, self._max_clients = clock, max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (what is left, when)
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take one request out of the client's bucket; return 0, or the seconds until it may ask again."""
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
