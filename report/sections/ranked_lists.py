"""Ranked lists of queries: the hardest, the best, and those that two runs rank differently."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...common.text import percent, short_names
from ..page.components import Component, Section, Strip, Text, Tile
from ..page.images import fitted
from ..run_contents import EvaluatedSet

SHOWN = 10  # results of each query, junk not counted


class RankedItem(NamedTuple):
    """One gallery image in a ranked list: its row, its distance, and right, wrong or junk."""

    item: int
    distance: float
    kind: str


def ranked(test: EvaluatedSet, query: int, shown: int = SHOWN) -> list[RankedItem]:
    """Return the nearest gallery images of a query, nearest first: `shown` of them and the junk in between.

    Ranked by distance, before any re-ranking; ties are in gallery order.
    """
    features = test.features
    distances = euclidean(features.query[query], features.gallery)
    relevant, junk = features.data.matches.of(query)
    kinds = dict.fromkeys(relevant.tolist(), "right") | dict.fromkeys(junk.tolist(), "junk")
    found: list[RankedItem] = []
    for item in np.argsort(distances, kind="stable")[: shown + len(junk)].tolist():
        found.append(RankedItem(item, float(distances[item]), kinds.get(item, "wrong")))
        if sum(one.kind != "junk" for one in found) == shown:
            break
    return found


def euclidean(query: Tensor, gallery: Tensor) -> np.ndarray:
    """Return the distances (G,) of one query (D,) to the gallery (G, D)."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(query[None].float(), gallery.float(), compute_mode=exact)[0].cpu().numpy()


def ranking_section(test: EvaluatedSet, count: int) -> Section | None:
    """Return the hardest and the best queries, `count` of each; None if `count` is 0."""
    if count < 1:
        return None
    result = test.result
    order = np.argsort(result.ap, kind="stable")
    hardest = order[:count]
    best = order[::-1][: min(count, len(order) - len(hardest))]
    groups = {"hardest": hardest.tolist(), "best": best.tolist()}
    sheets: dict[str, Sequence[Strip]] = {
        f"queries-{name}": [_strip(test, row) for row in rows] for name, rows in groups.items() if rows
    }
    parts: list[Component] = []
    for name, strips in sheets.items():
        parts += [Text(INTRODUCTIONS[name]), *strips]
    plain = "" if test.ranking == "none" else f" The lists are ranked by distance, before {test.ranking}."
    return Section("queries", "Hardest and best queries", READING + plain, parts, sheets)


READING = (
    "Each row is one query and its results, nearest first: ✓ right person, ✗ another person, – junk (not counted: the same person in the "
    "query's camera, or the query's own file). Rank, distance and camera are below each crop."
)
INTRODUCTIONS = {
    "queries-hardest": "The queries with the lowest average precision (AP):",
    "queries-best": "The queries with the highest average precision:",
}


def _strip(test: EvaluatedSet, row: int) -> Strip:
    """Return the strip of a row of the result, that is of a valid query."""
    result = test.result
    features, query = test.features, int(result.query_index[row])
    camera = short_names(features.camera_names)[features.q_camids[query]]
    person = features.person(features.q_pids[query])
    title = (
        f"{person} in {camera}: AP {percent(float(result.ap[row]))}, first right one at rank {result.first_hit[row]}"
    )
    return strip(test, query, title + order_of(test))


def order_of(test: EvaluatedSet) -> str:
    """Return the note in a title if its figures are re-ranked but the strip below is ranked by distance."""
    return "" if test.ranking == "none" else f", re-ranked by {test.ranking}; below, by distance"


def strip(test: EvaluatedSet, query: int, title: str) -> Strip:
    """Return a query and its results."""
    features = test.features
    cameras = short_names(features.camera_names)
    camera, person = cameras[features.q_camids[query]], features.person(features.q_pids[query])
    image, alt = _image(test, features.q_names[query]), f"query: {person} in camera {camera}"
    tiles, rank = [Tile(image, "query", [camera, person], alt)], 0
    for found in ranked(test, query):
        rank += found.kind != "junk"
        tiles.append(_tile(test, found, rank, cameras))
    return Strip(title, tiles)


def _tile(test: EvaluatedSet, found: RankedItem, rank: int, cameras: Sequence[str]) -> Tile:
    features = test.features
    camera, person = cameras[features.g_camids[found.item]], features.person(features.g_pids[found.item])
    place = "not counted" if found.kind == "junk" else f"rank {rank}"
    alt = f"{place}: {person} in camera {camera}, distance {found.distance:.3f}, {found.kind}"
    lines = [place, f"{found.distance:.3f} {camera}", person]
    return Tile(_image(test, features.g_names[found.item]), found.kind, lines, alt)


def _image(test: EvaluatedSet, name: str) -> np.ndarray | None:
    image = test.read(name) if test.read else None
    return None if image is None else fitted(image)


def difference_section(first: EvaluatedSet, second: EvaluatedSet, names: tuple[str, str], count: int) -> Section | None:
    """Return the queries with the largest difference in average precision between two runs; None if there is none."""
    gains = second.result.ap - first.result.ap
    order = np.argsort(-np.abs(gains), kind="stable")[:count]
    rows = [int(row) for row in order if gains[row]]
    if not rows:
        return None
    strips = []
    for row, (test, name) in product(rows, zip((first, second), names)):
        query, precision = int(test.result.query_index[row]), percent(float(test.result.ap[row]))
        title = f"{test.features.person(test.features.q_pids[query])}, {name}: AP {precision}{order_of(test)}"
        strips.append(strip(test, query, title))
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    reading = (
        f"{names[1]} ranks {better} of {len(gains)} queries better than {names[0]} and {worse} worse. Below: those with the "
        "largest difference in average precision, as both runs rank them."
    )
    title, sheets = "Queries that the runs judge differently", {"queries-differences": strips}
    return Section("differences", title, reading, strips, sheets)
