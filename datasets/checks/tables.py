"""Tables of a data set as text: counts per split and camera, histograms of sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..records import UNLABELLED, ReidData
from .entries import SPLITS, Listing

_BAR = 40  # characters
_HEIGHTS = (0, 32, 64, 96, 128, 192, 256, 384, 512)  # pixels
_ASPECTS = (0, 0.5, 1, 1.5, 2, 2.5, 3, 4)  # height / width


def count_table(data: ReidData) -> list[str]:
    """Return images (or tracklets), people and images per person of every split."""
    what = data.items
    lines = [f"{'':<10}{what:>{len(what) + 2}}{'people':>8}{'cameras':>9}   {what} per person: least, median, most"]
    for split in SPLITS:
        records = getattr(data, split)
        counts = Counter(record.pid for record in records if record.pid != UNLABELLED)
        per_person = sorted(counts.values()) or [0]
        people, cameras = len(counts), len({record.camid for record in records})
        spread = f"{per_person[0]}, {int(np.median(per_person))}, {per_person[-1]}"
        lines.append(f"{split:<10}{len(records):>{len(what) + 2}}{people:>8}{cameras:>9}   {spread}")
    return lines


def label_range(data: ReidData) -> str:
    """Return lowest and highest number of people and cameras."""
    pids = [record.pid for split in SPLITS for record in getattr(data, split)]
    pids = [pid for pid in pids if pid != UNLABELLED]
    named = " (numbered by their names)" if data.person_names else ""
    return f"pids {min(pids, default=0)} to {max(pids, default=0)}{named}; cameras {', '.join(data.camera_names)}"


def camera_table(data: ReidData) -> list[str]:
    """Return images by camera and split."""
    counts = Counter((entry.record.camid, entry.split) for entry in Listing(data).entries)
    width = max(8, *(len(name) for name in data.camera_names)) + 2
    lines = [f"{'camera':<{width}}" + "".join(f"{split:>9}" for split in SPLITS)]
    for camid, name in enumerate(data.camera_names):
        lines.append(f"{name:<{width}}" + "".join(f"{counts[camid, split]:>9}" for split in SPLITS))
    return lines


def size_tables(sizes: np.ndarray) -> list[str]:
    """Return histograms of (N, 2) heights and widths in pixels, and of their ratio."""
    if not len(sizes):
        return []
    heights, aspects = sizes[:, 0], sizes[:, 0] / sizes[:, 1]
    return ["height in pixels", *_histogram(heights, _HEIGHTS), "height / width", *_histogram(aspects, _ASPECTS)]


def _histogram(values: np.ndarray, edges: Sequence[float]) -> list[str]:
    """Return a line per non-empty bin; the last bin is open."""
    counts = np.histogram(values, [*edges, np.inf])[0]
    names = [f"{low:g} - {high:g}" for low, high in pairwise(edges)] + [f"from {edges[-1]:g}"]
    return [
        f"  {name:>11}{count:>9} {'#' * max(1, round(_BAR * count / counts.max()))}"
        for name, count in zip(names, counts)
        if count
    ]
