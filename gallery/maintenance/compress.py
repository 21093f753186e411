"""Smaller galleries: fewer dimensions (PCA), one byte per value (int8), and the measured loss of accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import UserError
from ...labels.protocol import find_protocol
from ..keeping.decision_file import take_over
from ..keeping.suppress_changes import inherit
from ..search.faiss_index import drawn_positions
from ..storage.gallery import Gallery
from ..storage.projection import Projection
from .merge_compact import check_rows, live_records, live_rows, placed, wanted

log = logging.getLogger(__name__)


def fit_pca(
    gallery: Gallery, output: str | Path, dim: int, *, sample: int = 100_000, seed: int = 0, overwrite: bool = False
) -> Gallery:
    """Make a gallery with the `dim` principal components of the embeddings; a search projects its queries.

    Projection shrinks the distances slightly, so the original threshold is invalid: the new gallery has none. For the
    metric "cosine" the components are not centred (truncated SVD), because subtracting a mean changes angles.

    Args:
        output: folder of the new gallery.
        dim: values per row, below the present dimension.
        sample: number of rows for the fit, drawn with `seed`.
    Raises:
        ValueError: `dim` does not fit the gallery, it is projected or int8 already, or `output` is the gallery itself.
    """
    gallery.check_output(output)
    _check_dim(gallery, dim)
    check_rows(gallery)
    positions = np.flatnonzero(gallery.is_live)
    positions = positions[drawn_positions(len(positions), sample, seed)]
    projection = _fit(gallery.vectors(positions), dim, gallery.info.metric, seed)
    if gallery.info.limit is not None:
        log.warning("%s: the threshold is invalid for projected embeddings and is left out; calibrate again", output)
    info = replace(gallery.info, dimension=dim, threshold=None, thresholds={})
    made = Gallery.build(output, info, lambda smaller: _fill(smaller, gallery, projection), overwrite, projection)
    take_over(made.path, gallery.path)  # what was decided about the rows
    return made


def _check_dim(gallery: Gallery, dim: int) -> None:
    if gallery.projection is not None or gallery.info.dtype == "int8":
        raise UserError(f"{gallery.path} is projected or int8 already; project the original gallery, then use to_int8")
    most = min(gallery.info.dimension - 1, len(gallery))
    if not 1 <= dim <= most:
        raise UserError(
            f"dim: 1 to {most} for {len(gallery)} rows of {gallery.info.dimension} values, got {dim}; choose another"
        )


def _fit(rows: np.ndarray, dim: int, metric: str, seed: int) -> Projection:
    from sklearn.decomposition import PCA, TruncatedSVD  # 0.6 s and 125 MB to import, which a search does without

    if metric == "euclidean":
        pca = PCA(dim, random_state=seed).fit(rows)
        return Projection(pca.mean_.astype(np.float32), pca.components_.astype(np.float32))
    svd = TruncatedSVD(dim, random_state=seed).fit(rows)
    return Projection(np.zeros(rows.shape[1], np.float32), svd.components_.astype(np.float32))


def to_int8(gallery: Gallery, output: str | Path, *, overwrite: bool = False) -> Gallery:
    """Make a gallery with one byte per value: -127 to 127 times a scale per dimension, set by its largest absolute value.

    Queries stay floats. The threshold is kept: distances change by less than the rounding.

    Raises:
        ValueError: it is int8 already, or empty, or `output` is the gallery itself.
    """
    gallery.check_output(output)
    if gallery.info.dtype == "int8" or not len(gallery):
        raise UserError(f"{gallery.path} is {'int8 already' if len(gallery) else 'empty'}; there is nothing to convert")
    check_rows(gallery)
    largest = np.max([np.abs(rows).max(0) for rows in live_rows(gallery) if len(rows)], axis=0).astype(np.float32)
    scale = np.where(largest > 0, largest, 1) / 127
    info = replace(gallery.info, dtype="int8", scale=tuple(scale.tolist()))
    made = Gallery.build(output, info, lambda smaller: _fill(smaller, gallery), overwrite, gallery.projection)
    take_over(made.path, gallery.path)  # what was decided about the rows
    return made


def _fill(target: Gallery, source: Gallery, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> None:
    """Write the live rows of `source` with their records and ids, but for those that were removed from the target's folder.

    Args:
        change: float rows (n, D) of the source -> those of the target.
    """
    chosen = wanted(source, target)
    with target.lock:
        target.append(
            (target.info.encode(change(source.info.decode(rows))) for rows in live_rows(source, chosen)),
            [placed(records, source.path, target.path) for records in live_records(source, chosen)],
        )
        target.commit(replace(target.state, next_id=source.state.next_id))
    inherit(target, source)


@dataclass(frozen=True)
class Cost:
    """Accuracy and size of a smaller gallery and its original. Fractions 0-1.

    Args:
        mAP, rank1: before and after.
        num_bytes: size of embeddings.npy, before and after.
        num_queries: number of queries in the averages.
        protocol: which rows are junk for a query: those from its camera, or, where no camera is known, the query alone.
    """

    mAP: tuple[float, float]
    rank1: tuple[float, float]
    num_bytes: tuple[int, int]
    num_queries: int
    protocol: str = "same-camera"

    def __str__(self) -> str:
        """Return one line, in percent."""
        (map0, map1), (first0, first1), (size0, size1) = self.mAP, self.rank1, self.num_bytes
        return (
            f"mAP {map0:.2%} -> {map1:.2%} ({100 * (map1 - map0):+.2f} points), Rank-1 {first0:.2%} -> {first1:.2%}, "
            f"{size0 / 1e6:.1f} -> {size1 / 1e6:.1f} MB ({self.num_queries} queries"
            f"{'' if find_protocol(self.protocol).ignores_own_camera else '; no cameras known, so rows of the own one count'})"
        )


def cost(original: Gallery, smaller: Gallery, max_queries: int = 2000, seed: int = 0) -> Cost:
    """Compare two galleries of the same rows: up to `max_queries` rows search the rows of other cameras.

    Only rows with pid and camera take part; if no row has a camera, those with a pid, and a query's own row is junk for it.
    The queries are the original's rows, as the model returned them. Both galleries are in memory as float32.

    Raises:
        ValueError: the rows of the galleries differ, no row has a pid, or no two are of one person.
    """
    from ...evaluation import evaluate_retrieval  # loads torch: 1.6 s and 780 MB, which a search does without

    labels, protocol = _labels(original)
    if not np.array_equal(original.ids[original.is_live], smaller.ids[smaller.is_live]):
        raise UserError(f"{smaller.path} does not hold the rows of {original.path}; compress it again")
    queries = drawn_positions(len(labels), max_queries, seed)
    pids, camids = labels[:, 1], labels[:, 2]
    rows = original.vectors(labels[:, 0])
    asked = rows[queries]
    results = [
        evaluate_retrieval(
            *(query, gallery, pids[queries], pids, camids[queries], camids),
            metric=original.info.metric,
            protocol=protocol,
            q_files=labels[queries, 0],
            g_files=labels[:, 0],
            max_rank=1,
        )
        for query, gallery in (
            (asked, rows),
            (smaller.project(asked), smaller.vectors_of(original.ids[labels[:, 0]])),
        )
    ]
    before, after = results
    sizes = [len(item) * item.embeddings.itemsize * item.info.dimension for item in (original, smaller)]
    return Cost(
        (before.mAP, after.mAP), (before.rank(1), after.rank(1)), (sizes[0], sizes[1]), before.num_valid, protocol
    )


def _labels(gallery: Gallery) -> tuple[np.ndarray, str]:
    """Return (n, 3) position, pid index and camera index of the live rows that have both, and the protocol.

    If no row has a camera, all rows with a pid are of camera 0.
    """
    table = gallery.select(["pid", "camera"])
    has_pid, has_camera = (gallery.is_live & ~np.asarray(table[name].is_null()) for name in ("pid", "camera"))
    by_camera = bool(has_camera.any())
    rows = np.flatnonzero(has_pid & has_camera if by_camera else has_pid)
    if not len(rows):
        wanted = "a pid and a camera" if by_camera else "a pid"
        raise UserError(f"{gallery.path}: no row has {wanted}, so mAP cannot be measured; add them by update")
    pids = np.unique(table["pid"].take(rows).to_pylist(), return_inverse=True)[1]
    cameras = np.unique(table["camera"].take(rows).to_pylist(), return_inverse=True)[1] if by_camera else 0 * rows
    return np.stack([rows, pids, cameras], axis=1), "same-camera" if by_camera else "own-file"
