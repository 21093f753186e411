"""What can be seen of the model: attention, parts of the jigsaw, position embeddings, side information."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...common.text import short_names
from ..page.charts import Chart
from ..page.components import Charts, Group, Part, Section, Strip, Table, Tile
from ..page.images import fitted, heat
from ..run_contents import Looks, Person, SideEffect
from .accuracy_section import grid_chart

UNKNOWN, OWN = "with the row of an unknown camera", "with the own camera's row"
MOST_POSITIONS = (8, 5)  # patches, down and across, whose similarities are drawn


def attention_section(looks: Looks) -> Section | None:
    """Return crops beside heat maps of where the model looks."""
    people = [person for person in looks.people if person.maps]
    if not people:
        return None
    strips = [_attention_strip(person) for person in people]
    reading = (
        "Under “rollout” and “last block”, bright patches weigh more in the embedding: look for a model that watches clothes, bags "
        "and shape rather than the background. Rollout follows the attention through all blocks (Abnar and Zuidema, ACL 2020), the "
        "last block alone is sharper. Under “like the middle”, bright patches have become similar to the one in the middle, whatever "
        "they weigh. Each map has its own scale."
    )
    return Section("attention", "Where the model looks", reading, [Group(strips, "strips")], {"attention": strips})


def _attention_strip(person: Person) -> Strip:
    maps = [_heat_tile(person, name, weights) for name, weights in person.maps.items()]
    return Strip(person.title, [Tile(fitted(person.image), "plain", ["crop"], f"crop of {person.title}"), *maps])


def _heat_tile(person: Person, name: str, weights: np.ndarray) -> Tile:
    row, column = np.unravel_index(np.nanargmax(weights), weights.shape)
    where = f"most at patch row {row + 1} of {weights.shape[0]}, column {column + 1} of {weights.shape[1]}"
    return Tile(fitted(heat(person.image, weights)), "plain", [name], f"{name} for {person.title}: {where}")


def parts_section(looks: Looks) -> Section | None:
    """Return where each part of the jigsaw looks."""
    people = [person for person in looks.people if person.parts]
    if not people:
        return None
    strips = [
        Strip(person.title, [_heat_tile(person, f"part {number}", part) for number, part in enumerate(person.parts, 1)])
        for person in people
    ]
    reading = (
        "The jigsaw module (JPM) shifts and shuffles the patches and deals them out to the parts; each part sees only its "
        "own (the dark ones belong to others) and shows with bright patches what its local feature is made of. Parts spread "
        "over the whole person are meant to be: each is a small sample of everything."
    )
    return Section("parts", "What the parts of the jigsaw see", reading, [Group(strips, "strips")], {"parts": strips})


def position_section(looks: Looks) -> Section | None:
    """Return how similar the position embeddings of the patches are."""
    if looks.positions is None:
        return None
    down, across = looks.positions.shape[:2]
    rows, columns = spread(down, MOST_POSITIONS[0]), spread(across, MOST_POSITIONS[1])
    picture = mosaic(looks.positions[np.ix_(rows, columns)])
    limit = largest_of_others(looks.positions)

    def draw(axes: Axes) -> None:
        axes.imshow(picture, cmap="cividis", vmin=-limit, vmax=limit, interpolation="none", aspect="equal")
        axes.set_axis_off()

    neighbours = mean_of_neighbours(looks.positions)
    reading = (
        "Each small picture belongs to the patch at its place in the crop and shows how similar that patch's position embedding is "
        f"to those of all others (yellow = {limit:.2f} and more, blue = -{limit:.2f}). A bright spot around its own place means that the model knows "
        f"where patches are; neighbours have a mean similarity of {neighbours:.2f} here."
    )
    caption = f"Cosine between position embeddings, {len(rows)} x {len(columns)} of {down} x {across} patches"
    height = min(5.0, 4.4 * picture.shape[0] / picture.shape[1])
    chart = Chart("positions", caption, f"{caption}; neighbours {neighbours:.2f} on average.", draw, (4.4, height))
    return Section("positions", "What the model knows about places", reading, [Charts([chart])])


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 … count - 1, evenly spread, the ends among them.

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
    """Return the largest absolute similarity of two different patches, of (h, w, h, w); 1 for a single patch."""
    count = similarities.shape[0] * similarities.shape[1]
    square = similarities.reshape(count, count)
    return float(np.abs(square[~np.eye(count, dtype=bool)]).max()) if count > 1 else 1.0


def mean_of_neighbours(similarities: np.ndarray) -> float:
    """Return the mean similarity of patches beside or above each other, of (h, w, h, w); NaN for a single patch."""
    height, width = similarities.shape[:2]
    pairs = [similarities[r, c, r, c + 1] for r, c in np.ndindex(height, width - 1)]
    pairs += [similarities[r, c, r + 1, c] for r, c in np.ndindex(height - 1, width)]
    return float(np.mean(pairs)) if pairs else float("nan")


def side_section(looks: Looks) -> Section | None:
    """Return what the side information learned about the cameras, and what it does to the embeddings."""
    if looks.side is None:
        return None
    side, names = looks.side, short_names(looks.side.cameras)
    charts = [_rows_chart(side, names)]
    parts: list[Part] = []
    if side.before is not None and side.after is not None:
        limits = float(np.nanmin([side.before, side.after])), float(np.nanmax([side.before, side.after]))
        for name, row, values in (("before", UNKNOWN, side.before), ("after", OWN, side.after)):
            caption = f"Mean similarity of different people between cameras, {row}"
            charts.append(grid_chart(f"side-{name}", caption, f"{caption}.", values, names, names, "{:.2f}", limits))
        parts.append(_side_table(side))
    reading = (
        "The side information (SIE) gives each camera an offset, its row, and a camera that the model does not know a row of its own. "
        "Cameras whose rows are alike were treated alike. The rows do their work if, with them, different people in the same "
        "camera are no more similar than those in different cameras, and the same person in different cameras is not less similar "
        "than with the row of an unknown camera."
    )
    return Section("side", "What the side information does", reading, [Charts(charts), *parts])


def _rows_chart(side: SideEffect, names: list[str]) -> Chart:
    caption = "Cosine between the learned rows of the cameras, their mean taken out"
    return grid_chart("side-rows", caption, f"{caption}.", side.rows, names, names, "{:.2f}", (-1, 1))


def _side_table(side: SideEffect) -> Table:
    rows = [["pairs", UNKNOWN, OWN, "change"]]
    rows += [[kind, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}"] for kind, (old, new) in side.summary.items()]
    return Table(
        f"Mean cosine of embeddings, their mean taken out; {side.num_images} images embedded {UNKNOWN} and {OWN}", rows
    )
