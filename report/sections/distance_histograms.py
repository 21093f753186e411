"""Histograms of the distances of same-person and different-person pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from ...common.text import percent
from ...evaluation import Threshold, VerificationResult, verify
from ..page.charts import COLOURS, Chart
from ..page.components import Charts, Component, Group, Section, Table, Text
from ..run_contents import EvaluatedSet

MOST_PAIRS = 1_000_000  # different-person pairs in the histogram
BINS = 60
NO_THRESHOLD = (
    "This model has no threshold yet (vitreid test --calibrate sets one); at the dotted line false matches and false non-matches "
    "are equally frequent."
)


def distance_section(test: EvaluatedSet) -> Section:
    """Return the histograms of the distances of same-person and different-person pairs."""
    metric = test.threshold.metric if test.threshold else "euclidean"
    found = verify(replace(test.features.data, metric=metric), max_impostors=MOST_PAIRS)
    reading = "The less the two histograms overlap, the more reliably one comparison decides whether two crops show the same person. "
    reading += "Pairs to the left of the threshold count as the same person." if test.threshold else NO_THRESHOLD
    numbers = [["figure", "value"], ["AUC", percent(found.auc, 2)], ["equal error rate", percent(found.eer, 2)]]
    numbers += [[name, percent(value, 2)] for name, value in found.summary().items() if name.startswith("TAR")]
    charts = Charts([distance_chart(found, test.threshold)])
    parts: list[Component] = [Group([charts, Table("One comparison at a time", numbers)])]
    drawn = "" if found.impostor_share == 1 else f", {percent(found.impostor_share)} of all, at random with seed 0"
    genuine = f"{found.num_genuine:,} pairs of the same person"
    parts.append(Text(f"The histograms show {genuine} and {found.num_impostor:,} pairs of different people{drawn}."))
    return Section("distances", "Distances of same and different people", reading, parts)


def distance_chart(found: VerificationResult, threshold: Threshold | None) -> Chart:
    """Return both histograms, each of area 1, with the threshold and the equal-error point."""
    ends = min(found.genuine[0], found.impostor[0]), max(found.genuine[-1], found.impostor[-1])

    def draw(axes: Axes) -> None:
        for label, values, colour, dashes in (
            ("same person", found.genuine, COLOURS[0], "-"),
            ("different people", found.impostor, COLOURS[1], "--"),
        ):
            heights, edges = np.histogram(values, BINS, ends, density=True)
            look: Any = {"facecolor": to_rgba(colour, 0.3), "edgecolor": colour, "linestyle": dashes, "linewidth": 1.4}
            axes.stairs(heights, edges, fill=True, label=label, **look)
        if threshold is not None:
            axes.axvline(threshold.distance, color=COLOURS[2], label=f"threshold {threshold.distance:.3f}")
        label = f"equal errors {found.eer_threshold:.3f}"
        axes.axvline(found.eer_threshold, color=COLOURS[3], linestyle=":", label=label)
        axes.set_xlabel("distance of two crops")
        axes.set_ylabel("density of pairs")
        axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.17))

    pairs = "all pairs" if found.impostor_share == 1 else "pairs, those of different people drawn at random,"
    caption = f"Distances of {pairs} of a query and a gallery image"
    alt = f"{caption}: same person {_middle(found.genuine)}, different people {_middle(found.impostor)}."
    return Chart("distances", caption, alt, draw, (4.4, 3.5))


def _middle(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"median {middle:.3f}, 80% between {low:.3f} and {high:.3f}"
