"""Summary of a gallery: size, cameras, times, threshold, example rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..search.search_result import limit_of

NUM_EXAMPLES, MAX_CAMERAS = 12, 500


def describe(gallery: Any) -> dict[str, Any]:
    """Return the number of live rows, their cameras and range of times, the threshold, and ids of a few rows."""
    table = gallery.select(["id", "camera", "time"])
    if getattr(gallery, "state", None) is not None:  # a folder, where removed rows keep their positions
        table = table.filter(pa.array(gallery.is_live))
    ids = table["id"].to_numpy()
    times = pc.min_max(table["time"].filter(pc.is_finite(table["time"])))
    threshold = gallery.info.limit or {}
    found = threshold.get("tar")  # share of the pairs of one person within the threshold
    return {
        "count": len(ids),
        "model": gallery.info.model,
        "dimension": gallery.info.dimension,
        "metric": gallery.info.metric,
        "threshold": limit_of(gallery.info),
        "fmr": threshold.get("fmr"),
        "missed": 1 - found if isinstance(found, int | float) else None,
        "columns": list(gallery.columns),
        "cameras": _cameras(table),
        "time": [times["min"].as_py(), times["max"].as_py()] if times["min"].is_valid else None,
        "examples": ids[_spread(len(ids))].tolist(),
    }


def _cameras(table: Any) -> list[dict[str, Any]]:
    """Return name and number of images of the MAX_CAMERAS largest cameras, sorted by name."""
    counts = Counter(
        {item["values"]: item["counts"] for item in pc.value_counts(table["camera"].combine_chunks()).to_pylist()}
    )
    del counts[None]  # unknown camera: no filter can select it
    return [{"name": name, "count": count} for name, count in sorted(counts.most_common(MAX_CAMERAS))]


def _spread(count: int) -> np.ndarray:
    """Return up to NUM_EXAMPLES positions, evenly spread over `count` rows."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, NUM_EXAMPLES)).astype(np.int64))
