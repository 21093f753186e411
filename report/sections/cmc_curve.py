"""Headline figures with intervals, and the CMC curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from ...common.text import interval, percent
from ...evaluation import bootstrap
from ...labels.protocol import find_protocol
from ..page.charts import Chart, add_legend, line_style
from ..page.components import Charts, Component, Group, Section, Table, Text
from ..run_contents import EvaluatedSet


def headline_section(test: EvaluatedSet) -> Section:
    """Return the figures of a paper with intervals, and the CMC curve."""
    features, result = test.features, test.result
    intervals = bootstrap(result, groups=features.q_pids)
    rows = [["figure", "value", "95% interval"]]
    for name, value in result.summary().items():
        rows.append([name, percent(value), interval(*intervals[name])])
    ranked = "by distance alone" if test.ranking == "none" else f"re-ranked by {test.ranking}"
    title = f"{features.dataset} {test.setting.name}".strip()
    caption = f"{title}: {result.num_valid} queries against {len(features.gallery)} gallery images, {ranked}"
    parts: list[Component] = [Group([Table(caption, rows), Charts([cmc_chart({features.dataset: test})])])]
    if test.setting.about:
        parts.append(Text(f"The figures are the {test.setting.about}."))
    if test.further:
        parts.append(_further(test))
    if caution := find_protocol(features.protocol).caution:
        parts.append(Text(caution))
    if skipped := result.num_queries - result.num_valid:
        parts.append(Text(f"{skipped} of {result.num_queries} queries have no match in the gallery and are left out."))
    if any(low == high for low, high in intervals.values()):
        parts.append(Text("“-” = no interval: all queries agree, or there is only one person."))
    reading = (
        "Rank-1 is the share of queries with the right person in first place. mAP also counts how early the person's other images "
        "come. The interval shows how much a figure may change with other people of the same kind as queries."
    )
    return Section("accuracy", "How well people are found", reading, parts)


def _further(test: EvaluatedSet) -> Table:
    """Return the figures of the data set's other settings."""
    rows = [["setting", *test.result.summary()]]
    rows += [[name, *(percent(value) for value in result.summary().values())] for name, result in test.further.items()]
    return Table(f"{test.features.dataset}: other queries, galleries or rules for junk", rows)


def cmc_chart(tests: Mapping[str, EvaluatedSet]) -> Chart:
    """Return the CMC curve of each evaluation, by label."""

    def draw(axes: Axes) -> None:
        drawn: dict[str, Artist] = {}
        for number, (label, test) in enumerate(tests.items()):
            shown = test.result.cmc[: min(50, len(test.features.gallery))]
            ranks = np.arange(1, len(shown) + 1)
            (drawn[label],) = axes.plot(ranks, 100 * shown, clip_on=False, **line_style(number))
        axes.set_xlabel("rank")
        axes.set_ylabel("right person among the first (%)")
        axes.set_xlim(left=1)
        axes.set_ylim(top=100)
        if len(tests) > 1:
            add_legend(axes, drawn, loc="lower right")

    figures = "; ".join(
        f"{name}: Rank-1 {percent(t.result.rank(1))}, Rank-10 {percent(t.result.rank(10))}" for name, t in tests.items()
    )
    caption = "CMC curve: how often the right person is among the first 1, 2, 3 … results"
    return Chart("accuracy-cmc", caption, f"{caption}. {figures}.", draw)
