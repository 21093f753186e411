"""How a request is turned down."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Refused(Exception):
    """A request that gets no answer, but a sentence that says why and what to do.

    Args:
        status: HTTP status, 400-599.
        sentence: for people.
        headers: more headers of the response, e.g. Retry-After.
    """

    status: int
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence
