"""Figures of a gallery: rows, people, cameras, times, what was removed, and size."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..milvus.milvus_gallery import MilvusGallery
from ..storage.gallery import Gallery


def statistics(gallery: Gallery | MilvusGallery) -> dict[str, Any]:
    """Return the figures of a gallery, in JSON types.

    Returns:
        rows, removed (waiting for `compact`), suppressed (by reason), people (by `pid`) and rows without one, cameras (rows by
        name) and rows without one, times (first and last, ISO 8601 UTC, None = no row has one), size in bytes (None = in Milvus), model
        and dimension.
    """
    table = gallery.select(["pid", "camera", "time"]).filter(pa.array(gallery.is_live))
    cameras = _counts(table["camera"])
    times = pc.min_max(table["time"].filter(pc.is_finite(table["time"])))
    info, folder = gallery.info, gallery if isinstance(gallery, Gallery) else None
    return {
        "rows": len(gallery),
        "removed": len(folder.state.removed) if folder else 0,
        "suppressed": dict(Counter(gallery.suppressed["reason"].to_pylist())),
        "people": pc.count_distinct(table["pid"], mode="only_valid").as_py(),
        "rows_without_pid": table["pid"].null_count,
        "cameras": {name: cameras[name] for name in sorted(filter(None, cameras))},
        "rows_without_camera": cameras[None],
        "times": [_moment(times[end].as_py()) for end in ("min", "max")] if times["min"].is_valid else None,
        "bytes": sum(file.stat().st_size for file in folder.files) if folder else None,
        "model": info.model_name or info.model,
        "dimension": info.dimension,
        "dtype": info.dtype,
    }


def _counts(column: pa.ChunkedArray) -> Counter[str | None]:
    return Counter({item["values"]: item["counts"] for item in pc.value_counts(column.combine_chunks()).to_pylist()})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
