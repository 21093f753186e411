"""Finding of a check: level, description, remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("problem", "warning", "note")  # the worst first
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        level: problem = training stops or results are invalid; warning = may cost accuracy; note = for information.
        name: identifier for programs.
        count: number of images, pairs or people.
        what: description.
        advice: remedy.
        examples: the first few cases.
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
