"""Two or more runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ...common.text import percent, points
from ...evaluation import paired_bootstrap
from ..page.components import Charts, Component, Group, Section, Table, Text
from ..run_contents import EvaluatedSet, RunContents
from .cmc_curve import cmc_chart

FIGURES = ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10")


def comparison_section(runs: Sequence[RunContents]) -> Section | None:
    """Return the figures of all runs, their differences from the first, and the CMC curves; None without an evaluation."""
    tests = {run.name: run.test for run in runs if run.test is not None}
    if not tests:
        return None
    rows = [["run", "test set", *FIGURES]]
    for name, test in tests.items():
        rows.append([name, test.features.dataset, *(percent(test.result.summary()[f]) for f in FIGURES)])
    names = list(tests)
    tables: list[Component] = [Table("Figures of each run", rows)]
    tables += [_difference(tests[names[0]], tests[name], (names[0], name)) for name in names[1:]]
    parts = [Group([Group(tables, "stack"), Charts([cmc_chart(tests)])])]
    reading = (
        "A difference is significant if its interval does not contain 0. Both runs are resampled with the same people, so easy and "
        "hard people weigh the same in both. The interval does not cover the variation between training seeds."
    )
    return Section("comparison", "Which run is better", reading, parts)


def _difference(first: EvaluatedSet, second: EvaluatedSet, names: tuple[str, str]) -> Component:
    """Return the table of `second` minus `first` with intervals, or a sentence with the reason why there is none."""
    if not first.features.same_images(second.features):
        reason = f"{names[1]} was evaluated on other images than {names[0]}"
        return Text(f"{reason}, so the two cannot be compared query by query.")
    intervals = paired_bootstrap(first.result, second.result, groups=first.features.q_pids)
    old, new = first.result.summary(), second.result.summary()
    rows = [["figure", "difference", "95% interval", "verdict"]]
    for name in FIGURES:
        low, high = intervals[name]
        rows.append([name, points(new[name] - old[name]), f"{points(low)} to {points(high)}", verdict(low, high)])
    return Table(f"{names[1]} minus {names[0]}, in percentage points", rows)


def verdict(low: float, high: float) -> str:
    """Return the verdict on a difference with this interval.

    >>> verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)
    ('better', 'worse', 'may be chance')
    """
    return "better" if low > 0 else "worse" if high < 0 else "may be chance"
