"""What the page must know before the first search."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..search.search_result import limit_of
from .json_values import plain

NUM_EXAMPLES, MAX_CAMERAS = 12, 500


def describe(gallery: Any) -> dict[str, Any]:
    """Return how many rows are live, from which cameras and times, the threshold, and a few rows to begin with.

    Raises:
        ValueError: the gallery's threshold is damaged or of another metric.
    """
    table = gallery.select(["id", "camera", "time"])
    if getattr(gallery, "state", None) is not None:  # a folder, which keeps the places of removed rows
        table = table.filter(pa.array(gallery.is_live))
    ids = table["id"].to_numpy()
    times = pc.min_max(table["time"].filter(pc.is_finite(table["time"])))
    threshold = gallery.info.threshold or {}
    return {
        "count": len(ids),
        "model": gallery.info.model,
        "dimension": gallery.info.dimension,
        "metric": gallery.info.metric,
        "threshold": limit_of(gallery.info),
        "fmr": plain(threshold.get("fmr")),
        "columns": list(gallery.columns),
        "cameras": _cameras(table),
        "time": [plain(times["min"].as_py()), plain(times["max"].as_py())] if times["min"].is_valid else None,
        "examples": ids[_spread(len(ids))].tolist(),
    }


def _cameras(table: Any) -> list[dict[str, Any]]:
    """Return name and number of images of the largest cameras, in the names' order."""
    counts = Counter(
        {item["values"]: item["counts"] for item in pc.value_counts(table["camera"].combine_chunks()).to_pylist()}
    )
    del counts[None]  # not known: no choice in a filter
    return [{"name": name, "count": count} for name, count in sorted(counts.most_common(MAX_CAMERAS))]


def _spread(count: int) -> np.ndarray:
    """Return up to NUM_EXAMPLES places, evenly spread over `count`."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, NUM_EXAMPLES)).astype(np.int64))
