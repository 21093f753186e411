"""Contestants measured in turn, the spread of their figures, and the bars that these have to reach. Imports no torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "vitreid"


@dataclass(frozen=True)
class Measurement:
    """The figures of one measurement by their names, None = not measured here; or the reason of a `failure`."""

    figures: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


@dataclass
class MeasuredRow:
    """One contestant's figures, a dict per round, or the reason why there are none."""

    contestant: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    skipped: str = ""

    def values(self, figure: str) -> list[Any]:
        """Return a figure of each round, without those that were not measured."""
        return [value for run in self.runs if (value := run.get(figure)) is not None]

    def median(self, figure: str) -> float | None:
        """Return the median of a figure over the rounds, None if it was not measured."""
        values = self.values(figure)
        return statistics.median(values) if values else None


def timed(*works: Callable[[], object]) -> tuple[float, float]:
    """Call the functions in their order; return the seconds, and the CPU seconds of this process."""
    start, computed = time.perf_counter(), time.process_time()
    for work in works:
        work()
    return time.perf_counter() - start, time.process_time() - computed


def turns(skipped: Mapping[str, str], rounds: int, measure: Callable[[str, int], Measurement]) -> list[MeasuredRow]:
    """Measure contestants in turn, round after round, because a machine's speed drifts.

    Args:
        skipped: contestant -> the reason why it cannot be measured; empty = it can.
        measure: contestant and number of the round -> its figures. After a failure it is not called again.
    """
    rows = [MeasuredRow(name, skipped=reason) for name, reason in skipped.items()]
    for number in range(rounds):
        for row in (row for row in rows if not row.skipped):
            found = measure(row.contestant, number)
            row.runs += [] if found.failure else [found.figures]
            row.skipped = found.failure
    return rows


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread_text(found: Mapping[str, float], spec: str = ".3g") -> str:
    """Return median, minimum and maximum as text.

    >>> spread_text(spread([3, 1, 2]), ".1f")
    '2.0 (1.0 - 3.0)'
    """
    median, low, high = (format(found[name], spec) for name in ("median", "min", "max"))
    return f"{median} ({low} - {high})"


def verdict(what: str, value: float | None, *, least: float | None = None, most: float | None = None) -> str:
    """Return whether a figure reaches its bar: `least` or more, or `most` or less.

    >>> verdict("seconds", 1.5, most=1)
    'seconds, at most 1: 1.5, missed'
    """
    what += f", at least {least:.3g}" if least is not None else f", at most {most:.3g}"
    if value is None:
        return f"{what}: not measured"
    is_met = (least is None or value >= least) and (most is None or value <= most)
    return f"{what}: {value:.3g}, {'met' if is_met else 'missed'}"


@dataclass(frozen=True)
class Bar:
    """The median of a figure, divided by that of the contestant `than` if it is given, is `least` or more, or `most` or less."""

    figure: str
    least: float | None = None
    most: float | None = None
    than: str = ""
    who: str = OURS

    def judge(self, rows: list[MeasuredRow]) -> str:
        """Return a line: what had to be reached, what was, and whether that is enough."""
        by_name = {row.contestant: row for row in rows}
        what = f"{self.figure} of {self.who}" + (f" / {self.than}" if self.than else "")
        value = by_name[self.who].median(self.figure)
        if self.than:
            other = by_name.get(self.than, MeasuredRow("")).median(self.figure)
            value = value / other if value is not None and other else None
        return verdict(what, value, least=self.least, most=self.most)
