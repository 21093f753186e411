"""Pictures of the model: attention, parts of the jigsaw, position embeddings, side information."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...common.pictures import heat_map
from ...common.text import short_names
from ..page.charts import Chart
from ..page.components import Charts, Component, Group, Section, Strip, Table, Tile
from ..page.images import fitted
from ..run_contents import CropAttention, ModelPictures, SieEffect
from .camera_grid import grid_chart

UNKNOWN, OWN = "with the row of an unknown camera", "with the camera's own row"
MOST_POSITIONS = (8, 5)  # patches drawn: rows, columns


def attention_section(pictures: ModelPictures) -> Section | None:
    """Return crops next to heat maps of the attention."""
    crops = [crop for crop in pictures.crops if crop.maps]
    if not crops:
        return None
    strips = [_attention_strip(crop) for crop in crops]
    reading = (
        "In “rollout” and “last block”, bright patches have more weight in the embedding: a good model attends to clothes, bags and "
        "body shape rather than the background. Rollout follows the attention through all blocks (Abnar and Zuidema, ACL 2020); the "
        "last block alone is sharper. In “like the middle”, bright patches have features similar to those of the middle patch; this "
        "is independent of their weight. Each map has its own scale."
    )
    return Section("attention", "Where the model looks", reading, [Group(strips, "strips")], {"attention": strips})


def _attention_strip(crop: CropAttention) -> Strip:
    maps = [_heat_tile(crop, name, weights) for name, weights in crop.maps.items()]
    return Strip(crop.title, [Tile(fitted(crop.image), "plain", ["crop"], f"crop of {crop.title}"), *maps])


def _heat_tile(crop: CropAttention, name: str, weights: np.ndarray) -> Tile:
    row, column = np.unravel_index(np.nanargmax(weights), weights.shape)
    where = f"most at patch row {row + 1} of {weights.shape[0]}, column {column + 1} of {weights.shape[1]}"
    return Tile(fitted(heat_map(crop.image, weights)), "plain", [name], f"{name} for {crop.title}: {where}")


def parts_section(pictures: ModelPictures) -> Section | None:
    """Return the attention of each jigsaw part."""
    crops = [crop for crop in pictures.crops if crop.parts]
    if not crops:
        return None
    strips = [
        Strip(crop.title, [_heat_tile(crop, f"part {number}", part) for number, part in enumerate(crop.parts, 1)])
        for crop in crops
    ]
    reading = (
        "The jigsaw module (JPM) shifts and shuffles the patches and divides them among the parts. Each part sees only its own "
        "patches (dark patches belong to other parts); bright patches have more weight in its local feature. The patches of a part "
        "are spread over the whole person on purpose, so that each part is a small sample of the whole."
    )
    return Section("parts", "What the parts of the jigsaw see", reading, [Group(strips, "strips")], {"parts": strips})


def position_section(pictures: ModelPictures) -> Section | None:
    """Return the similarity of the position embeddings."""
    if pictures.positions is None:
        return None
    down, across = pictures.positions.shape[:2]
    rows, columns = spread(down, MOST_POSITIONS[0]), spread(across, MOST_POSITIONS[1])
    picture = mosaic(pictures.positions[np.ix_(rows, columns)])
    limit = largest_of_others(pictures.positions)

    def draw(axes: Axes) -> None:
        axes.imshow(picture, cmap="cividis", vmin=-limit, vmax=limit, interpolation="none", aspect="equal")
        axes.set_axis_off()

    neighbours = mean_of_neighbours(pictures.positions)
    reading = (
        "Each small picture belongs to the patch at the same place in the crop: it shows the similarity of this patch's position "
        f"embedding to all others (yellow = {limit:.2f} and more, blue = -{limit:.2f}). A bright spot at the patch's own place means that the "
        f"model has learned positions; the mean similarity of neighbours is {neighbours:.2f}."
    )
    caption = f"Cosine between position embeddings, {len(rows)} x {len(columns)} of {down} x {across} patches"
    height = min(5.0, 4.4 * picture.shape[0] / picture.shape[1])
    chart = Chart("positions", caption, f"{caption}; neighbours {neighbours:.2f} on average.", draw, (4.4, height))
    return Section("positions", "What the model knows about places", reading, [Charts([chart])])


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 … count - 1, evenly spread, both ends included.

    >>> spread(3, 8), spread(21, 5)
    ([0, 1, 2], [0, 5, 10, 15, 20])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def mosaic(similarities: np.ndarray) -> np.ndarray:
    """Return (r, c, h, w) as one picture of r x c tiles of (h, w), a line of NaN between them."""
    rows, columns, height, width = similarities.shape
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + 1), column * (width + 1)
        picture[top : top + height, left : left + width] = similarities[row, column]
    return picture


def largest_of_others(similarities: np.ndarray) -> float:
    """Return the largest absolute similarity of two different patches, from (h, w, h, w); 1 for a single patch."""
    count = similarities.shape[0] * similarities.shape[1]
    square = similarities.reshape(count, count)
    return float(np.abs(square[~np.eye(count, dtype=bool)]).max()) if count > 1 else 1.0


def mean_of_neighbours(similarities: np.ndarray) -> float:
    """Return the mean similarity of adjacent patches, from (h, w, h, w); NaN for a single patch."""
    height, width = similarities.shape[:2]
    pairs = [similarities[r, c, r, c + 1] for r, c in np.ndindex(height, width - 1)]
    pairs += [similarities[r, c, r + 1, c] for r, c in np.ndindex(height - 1, width)]
    return float(np.mean(pairs)) if pairs else float("nan")


def side_section(pictures: ModelPictures) -> Section | None:
    """Return what the side information learned about the cameras, and its effect on the embeddings."""
    if pictures.side is None:
        return None
    side, names = pictures.side, short_names(pictures.side.cameras)
    caption = "Cosine between the learned rows of the cameras, their mean subtracted"
    charts = [grid_chart("side-rows", caption, f"{caption}.", side.rows, names, names, "{:.2f}", (-1, 1))]
    parts: list[Component] = []
    if side.before is not None and side.after is not None:
        limits = float(np.nanmin([side.before, side.after])), float(np.nanmax([side.before, side.after]))
        for name, row, values in (("before", UNKNOWN, side.before), ("after", OWN, side.after)):
            caption = f"Mean similarity of different people between cameras, {row}"
            charts.append(grid_chart(f"side-{name}", caption, f"{caption}.", values, names, names, "{:.2f}", limits))
        parts.append(_side_table(side))
    reading = (
        "The side information (SIE) adds a learned offset, a row of its table, for each camera; unknown cameras share one extra row. "
        "Similar rows mean that the model treats the cameras similarly. The rows help if different people in the same camera are no "
        "more similar than those in different cameras, and if the same person in different cameras is not less similar than with "
        "the row of an unknown camera."
    )
    return Section("side", "What the side information does", reading, [Charts(charts), *parts])


def _side_table(side: SieEffect) -> Table:
    rows = [["pairs", UNKNOWN, OWN, "change"]]
    rows += [[kind, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}"] for kind, (old, new) in side.summary.items()]
    caption = f"Mean cosine of embeddings, their mean subtracted; {side.num_images} images embedded {UNKNOWN} and {OWN}"
    return Table(caption, rows)
