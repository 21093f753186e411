"""Pool the rows of each tracklet into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ..keeping.decision_file import take_over
from ..keeping.suppress_changes import inherit
from ..storage.gallery import Gallery
from ..storage.records_file import with_ids
from .merge_compact import check_rows, placed, wanted

KEY = ("pid", "camera", "tracklet")
PART = 2**14  # tracklets written at once


def pool_tracklets(gallery: Gallery, output: str | Path, how: str = "mean", overwrite: bool = False) -> Gallery:
    """Make a gallery with one row per tracklet: the mean direction of its crops, with their mean length.

    The rows of a tracklet share pid, camera and tracklet; rows without a tracklet stay unchanged. The record of a tracklet
    is that of the crop closest to the mean, with the number of crops as `num_images`.

    Args:
        output: folder of the new gallery.
        how: "mean", or "quality": weighted by the column `quality` (0 or more) if the records have it, else by the
            cosine between a crop and the mean of its tracklet, so that outliers count less.
    Raises:
        ValueError: `how` is unknown, there is no row, a quality is negative or missing, or `output` is the gallery itself.
    """
    if how not in ("mean", "quality"):
        raise UserError(f"how: unknown pooling {how!r}; choose from mean, quality")
    gallery.check_output(output)
    if not len(gallery):
        raise UserError(f"{gallery.path} is empty; there is nothing to pool")
    check_rows(gallery)
    groups = _tracklets(gallery, gallery.is_live)
    quality = _qualities(gallery, groups) if how == "quality" else None

    def fill(pooled: Gallery) -> None:
        kept = wanted(gallery, pooled)
        _fill(pooled, gallery, groups if kept.sum() == len(gallery) else _tracklets(gallery, kept), quality)
        inherit(pooled, gallery)

    made = Gallery.build(output, gallery.info, fill, overwrite, gallery.projection)
    take_over(made.path, gallery.path)  # what was decided about the rows
    return made


def _fill(pooled: Gallery, gallery: Gallery, groups: list[np.ndarray], quality: np.ndarray | None) -> None:
    records = gallery.records.drop_columns([name for name in ("id", "num_images") if name in gallery.columns])
    records = placed(records, gallery.path, pooled.path)
    with pooled.lock:
        for start in range(0, len(groups), PART):
            part = groups[start : start + PART]
            found = [_pool(gallery.vectors(rows), quality[rows] if quality is not None else None) for rows in part]
            closest = np.array([rows[place] for rows, (_, place) in zip(part, found, strict=True)])
            sizes = pa.array([len(rows) for rows in part], pa.int64())
            chosen = records.take(closest).append_column("num_images", sizes)
            ids = np.arange(start, start + len(part))
            pooled.append(pooled.info.encode(np.stack([vector for vector, _ in found])), [with_ids(chosen, ids)])


def pool(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean direction (D,) of rows (n, D), weighted by `weights` (n,), with the rows' mean length."""
    lengths = np.linalg.norm(rows, axis=1)
    total = (rows if weights is None else rows * weights[:, None].astype(np.float32)).sum(0)
    size = np.linalg.norm(total)
    return total * (lengths.mean() / size) if size > 0 else total


def diverse(embeddings: np.ndarray, most: int) -> list[int]:
    """Return up to `most` rows of embeddings (n, D) that differ most: the first, then each the farthest from those before.

    Farthest-point sampling (Gonzalez, Theoretical Computer Science 38, 1985) by cosine; rows that equal one before are left out.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    chosen, distances = [0], 1 - unit @ unit[0]
    while len(chosen) < min(most, len(unit)) and distances.max() > 1e-6:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, 1 - unit @ unit[chosen[-1]])
    return chosen


def _pool(rows: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Return the pooled vector (D,) of rows (n, D), and the index of the row closest to it."""
    pooled = pool(rows, weights)
    return pooled, int(np.square(rows - pooled).sum(1).argmin())


def _tracklets(gallery: Gallery, kept: np.ndarray) -> list[np.ndarray]:
    """Return the positions of the `kept` (count,) rows of each tracklet; tracklets are in the order of their first row."""
    columns = zip(*(column.to_pylist() for column in gallery.select(KEY).columns), strict=True)
    groups: dict[tuple, list[int]] = {}
    for position, (is_kept, key) in enumerate(zip(kept.tolist(), columns, strict=True)):
        if is_kept:
            groups.setdefault(key if key[-1] is not None else (position,), []).append(position)
    return [np.array(positions) for positions in groups.values()]


def _qualities(gallery: Gallery, groups: list[np.ndarray]) -> np.ndarray:
    """Return the weight of each row, (count,)."""
    if "quality" in gallery.columns:
        return _given_qualities(gallery)
    weights = np.ones(gallery.state.count)
    for rows in groups:
        if len(rows) > 2:  # two crops have the same cosine to their mean
            weights[rows] = _agreement(gallery.vectors(rows))
    return weights


def _agreement(rows: np.ndarray) -> np.ndarray:
    """Return the cosine of each row to the mean, (n,), 0 if negative."""
    mean = rows.mean(0)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(mean)
    return np.maximum(rows @ mean / np.maximum(lengths, 1e-12), 0)


def _given_qualities(gallery: Gallery) -> np.ndarray:
    column = gallery.select(["quality"])["quality"]
    try:
        values = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise UserError(f"quality: expected numbers, 0 or more ({error}); correct the column") from error
    bad = np.flatnonzero(~(values >= 0) & gallery.is_live)  # NaN = missing
    if len(bad):
        raise UserError(
            f"quality: expected a number, 0 or more, for every row; got {values[bad[0]]} for id {gallery.ids[bad[0]]}"
        )
    return values
