"""The exception of a request that is turned down."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 400-599.
        sentence: what is wrong and what to do, for people.
        headers: additional headers of the response, e.g. Retry-After.
    """

    status: int
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)

    def __reduce__(self) -> tuple[type[RequestError], tuple[int, str, dict[str, str]]]:
        """Return how another process makes this exception anew."""
        return type(self), (self.status, self.sentence, self.headers)

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence
