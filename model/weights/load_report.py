"""Report of a weight import: loaded, resized, missing, unexpected and mismatched tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

SHOWN = 4  # names listed of each kind


@dataclass
class LoadReport:
    """Names of tensors by outcome.

    Args:
        source, project: the file, and the project with its naming.
        loaded: loaded unchanged.
        resized: adapted to the model: name -> change.
        missing: in the model, not in the file; they keep their initial values.
        unexpected: in the file, not in the model.
        mismatched: in both, with shapes that do not fit: name -> shapes.
        left_out: not used by an embedder.
        coverage: share of the backbone's parameters that come from the file, 0-1.
        classifiers: the file's ID classifiers, branch -> (C, D), for the loss.
        note: which of several sets of weights in the file these are.
    """

    source: str
    project: str
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    coverage: float = 0.0
    classifiers: dict[int, Tensor] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.source} ({self.project} names): {len(self.loaded)} tensors loaded, {self.coverage:.1%} of the backbone",
            self.note,
            *_listed("adapted", (f"{name} {how}" for name, how in self.resized.items())),
            *_listed("left out", self.left_out),
            self.problems(),
        ]
        return "; ".join(line for line in lines if line)

    def problems(self, part: str = "") -> str:
        """Return one sentence listing tensors of that part of the model that are missing, unexpected or mismatched."""
        lines = [
            *_listed("not in the file", (name for name in self.missing if name.startswith(part))),
            *_listed("not in the model", (name for name in self.unexpected if name.startswith(part))),
            *_listed(
                "of another shape", (f"{name} {how}" for name, how in self.mismatched.items() if name.startswith(part))
            ),
        ]
        return "; ".join(lines)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"] if names else []
