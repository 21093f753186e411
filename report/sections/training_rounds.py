"""Training without labels: the rounds as a table and curves, and clusters of the last round as strips of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...common.text import percent, short_names
from ...processor.pseudo_labels.round_figures import best_round, round_of
from ..page.charts import Chart
from ..page.components import Charts, Component, Section, Strip, Table, Text, Tile
from ..page.images import fitted
from ..run_contents import ClusteredImages, TrainingRounds
from .training_curves import line_chart, points

SHOWN = 10  # images of a cluster
MANY = 12  # rounds of a table that is folded
READING = (
    "Each round groups the training images anew. The score needs no labels: the mean silhouette of all images, 0 for outliers. It should rise, and "
    "the change from round to round should fall. Figures against the labels are shown where these are known; training did not use them."
)
COLUMNS = {  # column of rounds.csv -> heading
    "round": "round",
    "epoch": "epoch",
    "clusters": "clusters",
    "mean_size": "mean size",
    "outliers": "outliers",
    "one_camera": "of one camera",
    "change": "change",
    "score": "score",
    "f1": "pairwise F",
    "nmi": "NMI",
}
SHARES = ("change", "f1")
INTRODUCTIONS = {
    "clusters-fitting": "The clusters whose images fit best, by the mean silhouette, which needs no labels:",
    "clusters-mixed": "The clusters whose images fit worst. They are the first to look at: several people, or crops that show nobody well.",
    "clusters-pure": "By the labels, the largest clusters with the highest share of one person (purity):",
    "clusters-impure": "By the labels, the clusters with the lowest purity. Their main person is framed as right, others as wrong.",
}


def rounds_section(rounds: TrainingRounds, count: int) -> Section | None:
    """Return the rounds of a training without labels; None if there is none.

    Args:
        count: clusters shown of each kind.
    """
    if not rounds.rows:
        return None
    charts = [chart for chart in (count_chart(rounds.rows), share_chart(rounds.rows)) if chart is not None]
    parts: list[Component] = [Charts(charts), rounds_table(rounds.rows), Text(_chosen(rounds.rows))]
    sheets: dict[str, Sequence[Strip]] = {}
    if rounds.images is not None and count > 0:
        sheets = {name: strips for name, strips in cluster_strips(rounds.images, count).items() if strips}
    for name, strips in sheets.items():
        parts += [Text(INTRODUCTIONS[name]), *strips]
    return Section("rounds", "Rounds of clustering", READING, parts, sheets)


def rounds_table(rows: Sequence[Mapping[str, float]]) -> Table:
    """Return the figures of each round that are known of any."""
    names = [name for name in COLUMNS if any(name in row for row in rows)]
    body = [[_cell(name, row.get(name)) for name in names] for row in rows]
    return Table("Figures of each round", [[COLUMNS[name] for name in names], *body], folded=len(rows) > MANY)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in SHARES:
        return percent(value)
    return f"{value:.1f}" if name == "mean_size" else f"{value:.3f}" if name in ("score", "nmi") else f"{value:.0f}"


def _chosen(rows: Sequence[Mapping[str, float]]) -> str:
    """Return which round's model was kept: the first with the best score after some training."""
    rounds = [round_of(row) for row in rows]
    best, top = best_round(rounds), best_round(rounds, "f1")
    if best is None:
        return "No round after the first epoch: there is no model chosen by the score yet."
    text = f"best.safetensors is the model of round {best.round:.0f}, after epoch {best.epoch:.0f}, which has the best score, {best.score:.3f}."
    if top is None or math.isnan(best.f1):
        return text
    return f"{text} Its pairwise F against the labels is {percent(best.f1)}; the best of all rounds is {percent(top.f1)}, after epoch {top.epoch:.0f}."


def count_chart(rows: Sequence[Mapping[str, float]]) -> Chart | None:
    """Return the numbers of clusters and outliers."""
    names = {"clusters": "clusters", "of one camera": "one_camera", "outliers": "outliers"}
    lines = {label: points(rows, name) for label, name in names.items()}
    last = ", ".join(f"{values[-1]:.0f} {label}" for label, (_, values) in lines.items() if values)
    return line_chart(
        "rounds-clusters", "Clusters, and images in none, of each round", "number", lines, f"Last round: {last}."
    )


def share_chart(rows: Sequence[Mapping[str, float]]) -> Chart | None:
    """Return score and change, and the agreement with the labels where these are known."""
    names = {"score": "score", "change": "change", "pairwise F": "f1", "NMI": "nmi"}
    lines = {label: points(rows, name) for label, name in names.items()}
    last = ", ".join(f"{label} {values[-1]:.3f}" for label, (_, values) in lines.items() if values)
    caption = "Score and change of each round, and agreement with the labels where they are known"
    return line_chart("rounds-shares", caption, "fraction", lines, f"Last round: {last}.")


def cluster_strips(images: ClusteredImages, count: int) -> dict[str, list[Strip]]:
    """Return strips of the clusters that fit best and worst, and with labels of those with the highest and lowest purity."""
    kept = np.flatnonzero(images.clusters != "")
    names, of_row = np.unique(images.clusters[kept], return_inverse=True)
    order = np.argsort(of_row, kind="stable")
    parts = np.split(kept[order], np.flatnonzero(np.diff(of_row[order])) + 1) if len(kept) else []
    members = dict(zip(names.tolist(), parts, strict=True))
    fit = {name: float(images.fit[rows].mean()) for name, rows in members.items()}
    by_fit = sorted(members, key=lambda name: (-fit[name], -len(members[name]), name))
    groups = {
        "clusters-fitting": by_fit[:count],
        "clusters-mixed": by_fit[::-1][: max(0, min(count, len(by_fit) - count))],
    }
    purity = {name: share for name, rows in members.items() if (share := purity_of(images.people[rows])) is not None}
    by_purity = sorted(purity, key=lambda name: (-purity[name], -len(members[name]), name))
    groups["clusters-pure"] = by_purity[:count]
    groups["clusters-impure"] = [name for name in by_purity[count:][::-1] if purity[name] < 1][:count]
    cameras = dict(zip(dict.fromkeys(images.cameras), short_names(list(dict.fromkeys(images.cameras)))))
    return {
        kind: [_strip(images, name, members[name], fit[name], purity.get(name), cameras) for name in names]
        for kind, names in groups.items()
    }


def purity_of(people: np.ndarray) -> float | None:
    """Return the share of the most frequent person among those that are known (n,); None if none is.

    >>> purity_of(np.array(["Ann", "", "Ann", "Bob"]))
    0.6666666666666666
    """
    counts = np.unique(people[people != ""], return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) else None


def _strip(
    images: ClusteredImages, name: str, rows: np.ndarray, fit: float, purity: float | None, cameras: Mapping[str, str]
) -> Strip:
    """Return images of a cluster, those that fit best first; of a large one a selection, the worst among it."""
    known, counts = np.unique(images.people[rows][images.people[rows] != ""], return_counts=True)
    main = str(known[counts.argmax()]) if len(known) else ""
    order = rows[np.argsort(-images.fit[rows], kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]
    seen = len({images.cameras[row] for row in rows.tolist()})
    some = f", {len(chosen)} shown" if len(chosen) < len(rows) else ""
    title = f"{name}: {len(rows)} images{some}, {seen} camera{'s' * (seen > 1)}, fit {fit:.2f}"
    title += "" if purity is None else f", purity {percent(purity)}"
    return Strip(title, [_tile(images, row, main, cameras) for row in chosen.tolist()])


def _tile(images: ClusteredImages, row: int, main: str, cameras: Mapping[str, str]) -> Tile:
    image = images.read(images.paths[row]) if images.read else None
    camera, person, fit = cameras[images.cameras[row]], str(images.people[row]), float(images.fit[row])
    kind = "plain" if not person else "right" if person == main else "wrong"
    alt = f"{person or 'a person'} in camera {camera}, fit {fit:.2f}"
    return Tile(
        None if image is None else fitted(image), kind, [camera, f"fit {fit:.2f}", *([person] if person else [])], alt
    )
