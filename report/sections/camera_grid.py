"""mAP and Rank-1 from each camera to each, as tables and as a grid of colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ...common.text import percent, short_names
from ...evaluation import CameraPairs, camera_pairs
from ..page.charts import Chart
from ..page.components import Charts, Component, Group, Section, Table
from ..run_contents import EvaluatedSet

MOST_BESIDE = 32  # characters of column headings with which a table fits next to a chart
MOST_IN_LABEL = 18  # characters of a camera's name on an axis
MOST_LEVEL = 16  # characters of all labels of the columns that fit next to each other, level
CHARACTER = 0.075  # inches: mean width of one in a label


def camera_section(test: EvaluatedSet) -> Section | None:
    """Return mAP and Rank-1 for each pair of cameras; None if there is only one pair (see `why_no_cameras`)."""
    pairs = camera_pairs(test.features.data)
    if np.count_nonzero(pairs.num_valid) < 2:
        return None
    names = short_names(test.features.camera_names)
    reading = "A row or column of low values is a camera that the model handles badly: compare its light, angle and sharpness with the others."
    tables = [_camera_table("mAP", pairs.mAP, pairs, names), _camera_table("Rank-1", pairs.rank1, pairs, names)]
    parts: list[Component] = [Charts([camera_chart(pairs, names)]), Group(tables, "stack")]
    is_narrow = sum(len(names[camera]) for camera in pairs.gallery_cameras) <= MOST_BESIDE
    return Section("cameras", "From camera to camera", reading, [Group(parts, "columns" if is_narrow else "stack")])


def why_no_cameras(test: EvaluatedSet) -> str:
    """Return the reason for a report without the section of the cameras."""
    names = test.features.camera_names
    if len(names) > 1:
        return f"queries of one camera have matches in one camera only, of {len(names)} cameras."
    return (
        f"there is one camera only ({names[0]}). If several took the images, label them: in the file names "
        "(DATASETS.CAMERA_PATTERN), or in the column camid of a manifest."
    )


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
    rows, columns = fitted_labels(rows), fitted_labels(columns)
    is_level = sum(map(len, columns)) <= MOST_LEVEL * (1 if len(columns) < 10 else 0)
    left, below = (CHARACTER * max(map(len, labels)) for labels in (rows, columns))
    side = max(2.2, 4.2 - left) / max(len(rows), len(columns))  # of a square, inches
    height = 0.7 + side * len(rows) + (0.2 if is_level else below)

    def draw(axes: Axes) -> None:
        axes.grid(False)
        axes.spines[:].set_visible(False)
        shown = axes.pcolormesh(values, cmap="cividis", vmin=limits[0], vmax=limits[1], edgecolors="none")
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=0 if is_level else 90)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axes.tick_params(length=0)
        if max(values.shape) <= 10:
            _write_numbers(axes, values, np.asarray(shown.norm(values)), text)

    return Chart(name, caption, alt, draw, (4.4, height))


def fitted_labels(names: Sequence[str]) -> list[str]:
    """Return names for an axis; long ones lose their middle, or their end or beginning if the names differ in the middle.

    >>> fitted_labels(["parking level two east", "roof"])
    ['parking l…two east', 'roof']
    >>> fitted_labels(["parking level 1 north", "parking level 2 north"])
    ['parking l…1 north', 'parking l…2 north']
    >>> fitted_labels(["parking level 1 north side", "parking level 2 north side"])
    ['parking level 1 n…', 'parking level 2 n…']
    """
    for head in (MOST_IN_LABEL // 2, MOST_IN_LABEL - 1, 0):
        short = [_cut(name, head, MOST_IN_LABEL - 1 - head) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def _cut(name: str, head: int, tail: int) -> str:
    return name if len(name) <= MOST_IN_LABEL else f"{name[:head].strip()}…{name[len(name) - tail :].strip()}"


def _write_numbers(axes: Axes, values: np.ndarray, brightness: np.ndarray, text: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "#111111" if brightness[row, column] > 0.5 else "#fafafa"
            axes.text(column + 0.5, row + 0.5, text.format(value), ha="center", va="center", color=colour, fontsize=8)
