"""Queries with what was found for them, best first: the hardest and the best, and those that two runs judge differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...common.text import percent, short_names
from ..page.components import Part, Section, Strip, Text, Tile
from ..page.images import fitted
from ..run_contents import TestSet

SHOWN = 10  # results of each query that count


class Found(NamedTuple):
    """One gallery image in a ranking: its number, its distance, and whether it is right, wrong or junk."""

    item: int
    distance: float
    kind: str


def ranked(test: TestSet, query: int, shown: int = SHOWN) -> list[Found]:
    """Return the nearest gallery images of a query, nearest first, until `shown` of them count; junk stands in between.

    By distance alone, whatever re-ranking follows; equal distances stand in gallery order.
    """
    distances = euclidean(test.query[query], test.gallery)
    own = test.g_pids == test.q_pids[query]
    junk = own & (test.g_camids == test.q_camids[query]) if test.protocol == "same-camera" else np.zeros_like(own)
    found: list[Found] = []
    for item in np.argsort(distances, kind="stable")[: shown + int(junk.sum())].tolist():
        found.append(Found(item, float(distances[item]), "junk" if junk[item] else "right" if own[item] else "wrong"))
        if sum(one.kind != "junk" for one in found) == shown:
            break
    return found


def euclidean(query: Tensor, gallery: Tensor) -> np.ndarray:
    """Return the distances (G,) of one query (D,) to the gallery (G, D)."""
    return (
        torch.cdist(query[None].float(), gallery.float(), compute_mode="donot_use_mm_for_euclid_dist")[0].cpu().numpy()
    )


def ranking_section(test: TestSet, count: int) -> Section | None:
    """Return the hardest and the best queries, `count` of each; None for none."""
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
    parts: list[Part] = []
    for name, strips in sheets.items():
        parts += [Text(INTRODUCTIONS[name]), *strips]
    plain = "" if test.ranking == "none" else f" The order here is by distance alone, before {test.ranking}."
    return Section("queries", "Hardest and best queries", READING + plain, parts, sheets)


READING = (
    "Each row is one query and what was found for it, nearest first: ✓ right person, ✗ somebody else, – junk, the same person "
    "in the same camera, which does not count. Under each crop stand its rank, distance and camera."
)
INTRODUCTIONS = {
    "queries-hardest": "The queries with the lowest average precision (AP): what does the model take for the person?",
    "queries-best": "The queries with the highest average precision:",
}


def _strip(test: TestSet, row: int) -> Strip:
    """Return the strip of a row of the result, which has one for each valid query."""
    result = test.result
    query = int(result.query_index[row])
    camera = short_names(test.camera_names)[test.q_camids[query]]
    title = f"pid {test.q_pids[query]} in {camera}: AP {percent(float(result.ap[row]))}, first right one at rank {result.first_hit[row]}"
    return strip(test, query, title + order_of(test))


def order_of(test: TestSet) -> str:
    """Return what a title with figures says of the strip below where it has another order than the figures."""
    return "" if test.ranking == "none" else f", re-ranked by {test.ranking}; below, by distance"


def strip(test: TestSet, query: int, title: str) -> Strip:
    """Return a query and what was found for it."""
    cameras = short_names(test.camera_names)
    camera, pid = cameras[test.q_camids[query]], test.q_pids[query]
    tiles = [
        Tile(
            _image(test, test.q_names[query]),
            "query",
            [camera, f"pid {pid}"],
            f"query: person {pid} in camera {camera}",
        )
    ]
    rank = 0
    for found in ranked(test, query):
        rank += found.kind != "junk"
        tiles.append(_tile(test, found, rank, cameras))
    return Strip(title, tiles)


def _tile(test: TestSet, found: Found, rank: int, cameras: Sequence[str]) -> Tile:
    camera, pid = cameras[test.g_camids[found.item]], test.g_pids[found.item]
    place = "not counted" if found.kind == "junk" else f"rank {rank}"
    alt = f"{place}: person {pid} in camera {camera}, distance {found.distance:.3f}, {found.kind}"
    lines = [place, f"{found.distance:.3f} {camera}", f"pid {pid}"]
    return Tile(_image(test, test.g_names[found.item]), found.kind, lines, alt)


def _image(test: TestSet, name: str) -> np.ndarray | None:
    image = test.read(name) if test.read else None
    return None if image is None else fitted(image)


def difference_section(first: TestSet, second: TestSet, names: tuple[str, str], count: int) -> Section | None:
    """Return the queries whose average precision differs most between two runs, as both rank them; None without any."""
    gains = second.result.ap - first.result.ap
    order = np.argsort(-np.abs(gains), kind="stable")[:count]
    rows = [int(row) for row in order if gains[row]]
    if not rows:
        return None
    strips = [
        strip(
            test,
            int(test.result.query_index[row]),
            f"pid {test.q_pids[test.result.query_index[row]]}, {name}: AP {percent(float(test.result.ap[row]))}{order_of(test)}",
        )
        for row in rows
        for test, name in ((first, names[0]), (second, names[1]))
    ]
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    reading = (
        f"{names[1]} finds {better} of {len(gains)} queries better than {names[0]} and {worse} worse. Below, those with the "
        "largest difference in average precision, as the one and the other run rank them."
    )
    return Section(
        "differences", "Queries that the runs judge differently", reading, strips, {"queries-differences": strips}
    )
