"""Limits of requests: token, size, rate."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from ....common.errors import UserError

IPV6_NETWORK = 64  # bits of an address that one household or host shares; it may use any of the other 64


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
                "token: expected printable ASCII characters without a space at either end, one or more; leave it out for "
                "no token"
            )


class RateLimit:
    """A token bucket per client: it holds `burst` requests and refills by `rate` per second.

    Args:
        rate: requests per second; None = no limit.
        burst: requests at once; default: `2 * rate`, at least one.
        clock: the time in seconds.
        max_clients: buckets kept; the least recently used is dropped first.
    """

    def __init__(
        self,
        rate: float | None,
        burst: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = 10_000,
    ) -> None:
        self.rate, self.size = rate, burst or max(1.0, 2 * (rate or 0))
        self._clock, self._max_clients = clock, max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, time)
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take one request from the client's bucket; return 0, or the seconds to wait if it is empty."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            left = self._left(client, now)
            allowed = left >= 1
            self._buckets.pop(client, None)
            self._buckets[client] = (left - allowed, now)
            if len(self._buckets) > self._max_clients:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate

    def remaining_wait(self, client: str) -> float:
        """Return the seconds until the client's bucket has a request again, 0 if it has one; take none."""
        if self.rate is None:
            return 0.0
        with self._lock:
            left = self._left(client, self._clock())
        return max(0.0, 1 - left) / self.rate

    def _left(self, client: str, now: float) -> float:
        left, before = self._buckets.get(client, (self.size, now))
        return min(self.size, left + (now - before) * (self.rate or 0))


def client_of(address: str) -> str:
    """Return what the limits count: an IPv4 address, or the network of an IPv6 address.

    >>> client_of("192.0.2.7"), client_of("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001:db8::')
    """
    if ":" not in address:
        return address
    try:
        number = int(IPv6Address(address.partition("%")[0]))
    except ValueError:
        return address
    return str(IPv6Address(number >> 128 - IPV6_NETWORK << 128 - IPV6_NETWORK))
