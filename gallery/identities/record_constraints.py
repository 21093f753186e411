"""What the records say before any comparison: which rows are one person, which are two, and when they were taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ...evaluation.clustering.average_linkage import Constraints
from ...evaluation.clustering.cannot_links import seen_together, unless_similar
from ...evaluation.clustering.transit_times import Sightings
from ..storage.gallery import Gallery

COLUMNS = ("camera", "time", "end_time", "tracklet", "path", "video", "frame", "x")


def constraints_of(
    gallery: Gallery, positions: np.ndarray, keys: np.ndarray, owners: np.ndarray, near: np.ndarray
) -> Constraints:
    """Return the constraints on some rows of a gallery.

    Rows of one tracklet, or of one image, are together, unless people were confirmed to be several. Two tracklets of one camera that overlap in
    time are apart, and so are two boxes of one frame, or two images of one camera and one time, unless they look similar: see `unless_similar`.

    Args:
        positions: (n,) ascending.
        keys: (n,) of `row_keys`.
        owners: (n,) person of the rows that are settled, -1 = open.
        near: (n, k) as for `unless_similar`.
    """
    names = [name for name in COLUMNS if name in gallery.columns]
    table = gallery.select(names).take(pa.array(positions))
    tracks, images = _codes(table, "camera", "tracklet"), np.unique(keys.astype("V16"), return_inverse=True)[1]
    nodes = _unless_split(np.where(tracks >= 0, images.max(initial=0) + 1 + tracks, images), owners)
    leaders, node = np.unique(nodes, return_index=True, return_inverse=True)[1:]
    together = np.stack([leaders[node], np.arange(len(node))], axis=1)
    apart = np.concatenate([_overlapping(table, leaders, node), _same_frame(table, leaders, node)])
    apart = unless_similar(apart, near, tracks < 0)
    return Constraints(together[together[:, 0] != together[:, 1]], apart, owners)


def _codes(table: pa.Table, *names: str) -> np.ndarray:
    """Return (n,) number of each combination of values; -1 where the last column is missing or unknown."""
    codes = np.zeros(len(table), np.int64)
    for name in names:
        if name not in table.column_names:
            codes = codes if name != names[-1] else np.full(len(table), -1)
            continue
        column = table[name].combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        encoded = column.dictionary_encode()
        own = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        codes = np.unique(np.stack([codes, own]), axis=1, return_inverse=True)[1].reshape(-1)
        codes = np.where(own < 0, -1, codes) if name == names[-1] else codes
    return codes


def _unless_split(nodes: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return the nodes (n,), with each row of a node of several owners as its own node."""
    known = owners >= 0
    pairs = np.unique(np.stack([nodes[known], owners[known]]), axis=1)
    several, counts = np.unique(pairs[0], return_counts=True)
    return np.where(np.isin(nodes, several[counts > 1]), nodes.max(initial=0) + 1 + np.arange(len(nodes)), nodes)


def _overlapping(table: pa.Table, leaders: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Return pairs (C, 2) of rows, the first ones of two nodes of one camera that overlap in time."""
    start, end = (_numbers(table, name) for name in ("time", "end_time"))
    return leaders[seen_together(node, _codes(table, "camera"), start, end)]


def _same_frame(table: pa.Table, leaders: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Return pairs (C, 2) of rows that are two boxes of one frame of a video, or of one picture."""
    if "frame" in table.column_names:
        frames = _codes(table, "video" if "video" in table.column_names else "path", "frame")
    elif "x" in table.column_names:
        frames = _codes(table, "path")
    else:
        return np.empty((0, 2), np.int64)
    order = np.lexsort((node, frames))
    order = order[frames[order] >= 0]
    found = []
    for group in np.split(order, np.flatnonzero(np.diff(frames[order])) + 1):
        nodes = np.unique(node[group])
        one, other = np.triu_indices(len(nodes), 1)
        found.append(np.stack([leaders[nodes[one]], leaders[nodes[other]]], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    column: Any = table[name].cast(pa.float64())
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def times_of(gallery: Gallery, positions: np.ndarray) -> np.ndarray:
    """Return the time (n,) of some rows, NaN = unknown."""
    return _numbers(gallery.select(["time"]).take(pa.array(positions)), "time")


def sightings_of(gallery: Gallery, positions: np.ndarray) -> Sightings | None:
    """Return when and where some rows were taken, in the middle of time and end_time; None if no time of a known camera is known."""
    names = [name for name in ("camera", "time", "end_time") if name in gallery.columns]
    table = gallery.select(names).take(pa.array(positions))
    cameras, start, end = _codes(table, "camera"), _numbers(table, "time"), _numbers(table, "end_time")
    times = np.where(cameras < 0, np.nan, np.where(np.isnan(end), start, (start + end) / 2))
    return None if np.isnan(times).all() else Sightings(np.maximum(cameras, 0), times)
