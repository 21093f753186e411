"""Training curves: loss terms, accuracy, learning rate and mAP over the epochs of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...common.text import percent
from ..page.charts import Chart, add_legend, line_style
from ..page.components import Charts, Component, Section, Text
from ..run_contents import RunContents

Rows = Sequence[Mapping[str, float]]
NOT_LOSSES = ("epoch", "accuracy", "images_per_second", "lr", "seconds")  # columns that are neither terms nor metrics
READING = (
    "The loss should fall and level out. If the accuracy on the training identities still rises while the mAP on the test "
    "people falls, the model overfits."
)


def training_section(runs: Sequence[RunContents]) -> Section | None:
    """Return the curves of one run, or of several overlaid; None if no run has numbers."""
    shown = [run for run in runs if run.epochs]
    if not shown:
        return None
    charts = [make(shown) for make in (loss_chart, metric_chart, accuracy_chart, rate_chart)]
    parts: list[Component] = [Charts([chart for chart in charts if chart is not None])]
    return Section("training", "Training", READING, [*parts, *(Text(sentence) for sentence in _totals(shown))])


def loss_terms(rows: Rows) -> list[str]:
    """Return `loss` and the names of its terms: the numbers in a row before `loss`, their sum.

    >>> loss_terms([{"epoch": 1, "id": 4.0, "triplet": 1.0, "accuracy": 0.1, "loss": 5.0, "lr": 0.1, "mAP": 0.2}])
    ['loss', 'id', 'triplet']
    """
    names = list(rows[0])
    terms = [name for name in names[: names.index("loss")] if name not in NOT_LOSSES] if "loss" in names else []
    return ["loss", *terms] if len(terms) > 1 else ["loss"] if "loss" in names else []


def points(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    """Return the epochs with a value of `name`, and the values."""
    found = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
    return [epoch for epoch, _ in found], [value for _, value in found]


def loss_chart(runs: Sequence[RunContents]) -> Chart | None:
    """Return the loss; for a single run also its terms."""
    names = loss_terms(runs[0].epochs) if len(runs) == 1 else ["loss"]
    lines = {name if len(runs) == 1 else run.name: points(run.epochs, name) for run, name in product(runs, names)}
    last = ", ".join(f"{label} {values[-1]:.3g}" for label, (_, values) in lines.items() if values)
    caption = f"Loss{' and its terms' if len(names) > 1 else ''}, mean of each epoch"
    return line_chart("training-loss", caption, "loss", lines, f"Last epoch: {last}.")


def metric_chart(runs: Sequence[RunContents]) -> Chart | None:
    """Return mAP per evaluation; for a single run also Rank-1."""
    names = ["mAP", "Rank-1"] if len(runs) == 1 else ["mAP"]
    lines = {name if len(runs) == 1 else run.name: points(run.epochs, name) for run, name in product(runs, names)}
    last = ", ".join(f"{label} {percent(values[-1])}" for label, (_, values) in lines.items() if values)
    caption = f"{' and '.join(names)} at each evaluation"
    if len({run.test.features.dataset for run in runs if run.test is not None}) > 1:
        caption += ", of each run on its own test set"
    return line_chart("training-map", caption, " and ".join(names), lines, f"Last: {last}.", is_share=True)


def accuracy_chart(runs: Sequence[RunContents]) -> Chart | None:
    """Return the accuracy of the ID classifier on the training crops."""
    lines = {"accuracy" if len(runs) == 1 else run.name: points(run.epochs, "accuracy") for run in runs}
    last = ", ".join(f"{label} {percent(values[-1])}" for label, (_, values) in lines.items() if values)
    caption = "Accuracy of the ID classifier on the training crops"
    return line_chart("training-accuracy", caption, "accuracy", lines, f"Last epoch: {last}.", is_share=True)


def rate_chart(runs: Sequence[RunContents]) -> Chart | None:
    """Return the learning rate at the end of each epoch."""
    lines = {"learning rate" if len(runs) == 1 else run.name: points(run.epochs, "lr") for run in runs}
    top = max((max(values) for _, values in lines.values() if values), default=0)
    caption = "Learning rate at the end of each epoch"
    return line_chart("training-rate", caption, "learning rate", lines, f"At most {top:.3g}.")


def line_chart(
    name: str,
    caption: str,
    unit: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    alt: str,
    is_share: bool = False,
) -> Chart | None:
    """Return a chart of lines over epochs, by label; None if no line has a point."""
    lines = {label: line for label, line in lines.items() if line[0]}
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        drawn: dict[str, Artist] = {}
        for number, (label, (epochs, values)) in enumerate(lines.items()):
            scaled = [100 * value for value in values] if is_share else values
            marker = "o" if len(epochs) <= 40 else ""  # a single evaluation is a point, not a line
            (drawn[label],) = axes.plot(epochs, scaled, marker=marker, markersize=3.5, **line_style(number))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{unit} (%)" if is_share else unit)
        axes.set_ylim(bottom=0, auto=None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        if len(lines) > 1:
            add_legend(axes, drawn)

    return Chart(name, caption, f"{caption}. {alt}", draw)


def _totals(runs: Sequence[RunContents]) -> list[str]:
    """Return a sentence per run with its epochs, time and speed."""
    sentences = []
    for run in runs:
        seconds = [row["seconds"] for row in run.epochs if row.get("seconds") is not None]
        speeds = [row["images_per_second"] for row in run.epochs if row.get("images_per_second") is not None]
        who = f"{run.name}: " if len(runs) > 1 else ""
        took = f" in {_duration(sum(seconds))}" if seconds else ""
        speed = f", {sum(speeds) / len(speeds):.0f} images per second on average" if speeds else ""
        sentences.append(f"{who}{len(run.epochs)} epochs{took}{speed}.")
    return sentences


def _duration(seconds: float) -> str:
    """Return e.g. "1 h 02 min".

    >>> _duration(42), _duration(100), _duration(3720)
    ('42 s', '1 min 40 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
