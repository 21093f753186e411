"""Accuracy: headline figures, CMC, distances of pairs, cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from ...common.text import interval, percent, short_names
from ...evaluation import CameraPairs, Threshold, VerificationResult, bootstrap, camera_pairs, verify
from ..page.charts import COLOURS, Chart, add_legend, line_style
from ..page.components import Charts, Component, Group, Section, Table, Text
from ..run_contents import EvaluatedSet

MOST_PAIRS = 1_000_000  # different-person pairs in the histogram
BINS = 60
NO_THRESHOLD = (
    "This model has no threshold yet (tools/test.py --calibrate sets one); at the dotted line false matches and false non-matches "
    "are equally frequent."
)


def headline_section(test: EvaluatedSet) -> Section:
    """Return the figures of a paper with intervals, and the CMC curve."""
    features, result = test.features, test.result
    intervals = bootstrap(result, groups=features.q_pids)
    rows = [["", "value", "95% interval"]]
    for name, value in result.summary().items():
        rows.append([name, percent(value), interval(*intervals[name])])
    ranked = "by distance alone" if test.ranking == "none" else f"re-ranked by {test.ranking}"
    caption = f"{features.dataset}: {result.num_valid} queries against {len(features.gallery)} gallery images, {ranked}"
    parts: list[Component] = [Group([Table(caption, rows), Charts([cmc_chart({features.dataset: test})])])]
    if skipped := result.num_queries - result.num_valid:
        parts.append(Text(f"{skipped} of {result.num_queries} queries have no match in the gallery and are left out."))
    if any(low == high for low, high in intervals.values()):
        parts.append(Text("“-” = no interval: all queries agree, or there is only one person."))
    reading = (
        "Rank-1 is the share of queries with the right person in first place. mAP also counts how early the person's other images "
        "come. The interval shows how much a figure may change with other people of the same kind as queries."
    )
    return Section("accuracy", "How well people are found", reading, parts)


def cmc_chart(tests: dict[str, EvaluatedSet]) -> Chart:
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


def distance_section(test: EvaluatedSet) -> Section:
    """Return the histograms of the distances of same-person and different-person pairs."""
    metric = test.threshold.metric if test.threshold else "euclidean"
    found = verify(replace(test.features.data, metric=metric), max_impostors=MOST_PAIRS)
    reading = "The less the two histograms overlap, the more reliably one comparison decides whether two crops show the same person. "
    reading += "Pairs to the left of the threshold count as the same person." if test.threshold else NO_THRESHOLD
    numbers = [["", "value"], ["AUC", percent(found.auc, 2)], ["equal error rate", percent(found.eer, 2)]]
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


def camera_section(test: EvaluatedSet) -> Section | None:
    """Return mAP and Rank-1 for each pair of cameras; None if there is only one pair."""
    pairs = camera_pairs(test.features.data)
    if np.count_nonzero(pairs.num_valid) < 2:
        return None
    names = short_names(test.features.camera_names)
    reading = "A row or column of low values is a camera that the model handles badly: compare its light, angle and sharpness with the others."
    tables = [_camera_table("mAP", pairs.mAP, pairs, names), _camera_table("Rank-1", pairs.rank1, pairs, names)]
    parts: list[Component] = [Charts([camera_chart(pairs, names)]), Group(tables, "stack")]
    return Section("cameras", "From camera to camera", reading, [Group(parts)])


def _camera_table(title: str, values: np.ndarray, pairs: CameraPairs, names: Sequence[str]) -> Table:
    head = ["from \\ to", *(names[camera] for camera in pairs.gallery_cameras)]
    rows = zip(pairs.query_cameras, values, strict=True)
    body = [[names[camera], *(percent(value) for value in row)] for camera, row in rows]
    return Table(f"{title}: queries of a camera (row) among the gallery images of a camera (column)", [head, *body])


def camera_chart(pairs: CameraPairs, names: Sequence[str]) -> Chart:
    """Return the mAP of each pair of cameras as a grid of colours."""
    worst = np.unravel_index(np.nanargmin(pairs.mAP), pairs.mAP.shape)
    rows, columns = ([names[camera] for camera in cameras] for cameras in (pairs.query_cameras, pairs.gallery_cameras))
    alt = f"Lowest mAP: {percent(pairs.mAP[worst])}, from {rows[worst[0]]} to {columns[worst[1]]}."
    caption = "mAP (%) of queries of a camera (row) in the gallery of a camera (column)"
    return grid_chart("cameras-map", caption, f"{caption}. {alt}", 100 * pairs.mAP, rows, columns, "{:.0f}")


def grid_chart(
    name: str,
    caption: str,
    alt: str,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    text: str = "{:.2f}",
    limits: tuple[float | None, float | None] = (None, None),
) -> Chart:
    """Return values (R, C) as coloured squares, with numbers if no side is longer than 10."""
    height = 1.0 + 3.2 * len(rows) / max(len(rows), len(columns))

    def draw(axes: Axes) -> None:
        axes.grid(False)
        axes.spines[:].set_visible(False)
        shown = axes.pcolormesh(values, cmap="cividis", vmin=limits[0], vmax=limits[1], edgecolors="none")
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=0 if len(columns) < 10 else 90)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axes.tick_params(length=0)
        if max(values.shape) <= 10:
            _write_numbers(axes, values, np.asarray(shown.norm(values)), text)

    return Chart(name, caption, alt, draw, (4.4, height))


def _write_numbers(axes: Axes, values: np.ndarray, brightness: np.ndarray, text: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "#111111" if brightness[row, column] > 0.5 else "#fafafa"
            axes.text(column + 0.5, row + 0.5, text.format(value), ha="center", va="center", color=colour, fontsize=8)
