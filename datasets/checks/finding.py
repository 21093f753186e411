"""What a check says: what was found, how bad it is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("problem", "warning", "note")  # the worst first
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: problem = training stops, or its figures mean nothing; warning = costs accuracy, look at it;
            note = good to know.
        name: for programs.
        count: how many images, pairs or people are concerned.
        what: what was found, in words.
        advice: what to do.
        examples: the first few of them.
    """

    level: str
    name: str
    count: int
    what: str
    advice: str = ""
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.level.upper():<8} {self.what}", *(f"           {example}" for example in self.examples)]
        if (more := self.count - len(self.examples)) > 0 and self.examples:
            lines.append(f"           and {more} more")
        return "\n".join([*lines, *([f"         -> {self.advice}"] if self.advice else [])])


def first_few(items: Sequence[object]) -> tuple[str, ...]:
    """Return the first items as text."""
    return tuple(str(item) for item in items[:_SHOWN])
