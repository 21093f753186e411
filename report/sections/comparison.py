"""Two or more runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...common.text import percent, points
from ...evaluation import paired_bootstrap
from ..page.components import Charts, Component, Group, Section, Table, Text
from ..run_contents import EvaluatedSet, RunContents
from .cmc_curve import cmc_chart

FIGURES = ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10")


COMPARED = (
    "A difference is significant if its interval does not contain 0. Both runs are resampled with the same people, so easy and "
    "hard people weigh the same in both. The interval does not cover the variation between training seeds."
)
NOT_COMPARED = (
    "The runs were evaluated on different images, so their figures do not say which one is better: a test set may be easier. "
    "Evaluate the runs on one test set to compare them (DATASETS.TEST NAME after the run folders)."
)


def comparison_section(runs: Sequence[RunContents]) -> Section | None:
    """Return the figures of all runs, and the differences of those on the same images; None without an evaluation."""
    tests = {run.name: run.test for run in runs if run.test is not None}
    if not tests:
        return None
    groups = same_test_set(tests)
    rows = [["run", "test set", *FIGURES]]
    for name, test in tests.items():
        rows.append([name, test.features.dataset, *(percent(test.result.summary()[f]) for f in FIGURES)])
    figures = Table("Figures of each run", rows)
    if len(groups) == 1:
        parts: list[Component] = [Group([Group([figures, *_differences(tests)], "stack"), Charts([cmc_chart(tests)])])]
        return Section("comparison", "Which run is better", COMPARED, parts)
    parts = [figures, *_reasons(groups)]
    parts += [table for group in groups for table in _differences(group)]
    if any(len(group) > 1 for group in groups):
        parts.append(Text(COMPARED))
    return Section("comparison", "Runs on different test sets", NOT_COMPARED, parts)


def same_test_set(tests: Mapping[str, EvaluatedSet]) -> list[dict[str, EvaluatedSet]]:
    """Return the evaluations in groups of the same queries and gallery, in the order of their first run."""
    groups: list[dict[str, EvaluatedSet]] = []
    for name, test in tests.items():
        for group in groups:
            if next(iter(group.values())).features.same_images(test.features):
                group[name] = test
                break
        else:
            groups.append({name: test})
    return groups


def _reasons(groups: Sequence[Mapping[str, EvaluatedSet]]) -> list[Component]:
    """Return a sentence per group about its images; two test sets of one name may differ in them."""
    first = ", ".join(groups[0])
    others = [", ".join(group) for group in groups[1:]]
    return [
        Text(f"{names} {'was' if ',' not in names else 'were'} evaluated on other images than {first}.")
        for names in others
    ]


def _differences(tests: Mapping[str, EvaluatedSet]) -> list[Component]:
    """Return the differences of each run from the first."""
    (first, test), *others = tests.items()
    return [_difference(test, other, (first, name)) for name, other in others]


def _difference(first: EvaluatedSet, second: EvaluatedSet, names: tuple[str, str]) -> Component:
    """Return the table of `second` minus `first` with intervals."""
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
