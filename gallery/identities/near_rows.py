"""The rows of a gallery as they are compared, and the nearest others of each, exactly or by a FAISS index."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from ...common.errors import UserError
from ...evaluation.reranking.neighbours import Neighbours, find_neighbours
from ...labels.camera_norm import CAMERA_NORMS, FULL, LEAST_IMAGES, OFF
from ..search.faiss_index import INDEXES, TRAIN_PER_LIST, drawn_positions, import_faiss
from ..storage.camera_statistics import UNKNOWN, CameraNorm
from ..storage.gallery import Gallery
from ..storage.row_checks import accepted_lengths, squared_lengths

logger = logging.getLogger(__name__)
EXACT_ROWS = 100_000  # more rows are searched by FAISS, if it is installed
INDEX, PROBED = "faiss-ivf", 32  # IVF lists searched per row
BLOCK, SAMPLE = 2**16, 1000  # rows searched at once; rows that the largest distance is estimated from
AUTO = "auto"


def usable_positions(gallery: Gallery) -> np.ndarray:
    """Return the positions (n,) of the live rows that can be compared: no NaN, no zero."""
    positions = np.flatnonzero(gallery.is_live)
    lengths, kept = accepted_lengths(gallery.info), []
    for start in range(0, len(positions), BLOCK):
        some = positions[start : start + BLOCK]
        stored = gallery.embeddings[some]
        kept.append(lengths.accepts(squared_lengths(gallery.info.decode(stored), stored)))
    usable = np.concatenate(kept) if kept else np.zeros(0, bool)
    if not usable.all():
        logger.warning("%s: %d rows are no embeddings and are left out; see verify", gallery.path, (~usable).sum())
    return positions[usable]


def compared_rows(gallery: Gallery, positions: np.ndarray, norm: CameraNorm | None) -> np.ndarray:
    """Return the rows (n, D) float32 at some positions as they are compared, by euclidean distance.

    Args:
        norm: what `camera_norm_of` returned.
    """
    rows = np.empty((len(positions), gallery.info.dimension), np.float32)
    for start in range(0, len(positions), BLOCK):
        some = positions[start : start + BLOCK]
        part = gallery.vectors(some)
        part = part if norm is None else norm.rows(part, some)
        if gallery.info.metric == "cosine" and norm is None:
            part = unit_rows(part)
        rows[start : start + len(some)] = part
    return rows


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, D) at unit length; zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def camera_norm_of(gallery: Gallery, mode: str = AUTO) -> CameraNorm | None:
    """Return the normalisation of the rows by their cameras, None = none.

    Args:
        mode: a key of CAMERA_NORMS; "auto" = the gallery's own, else "full" if every camera has enough rows.
    Raises:
        UserError: a camera has too few rows for its statistics, or the mode is unknown.
    """
    if mode not in (AUTO, *CAMERA_NORMS):
        raise UserError(f"--camera-norm: unknown value {mode!r}; choose from {AUTO}, {', '.join(CAMERA_NORMS)}")
    if mode == AUTO and gallery.info.camera_norm != OFF:
        return gallery.camera_norm
    if mode == OFF:
        return None
    sums = gallery.camera_sums()
    counts = {name: count for name, count in zip(sums.names, sums.counts.tolist(), strict=True) if count}
    if mode == AUTO and (UNKNOWN in counts or len(counts) < 2 or min(counts.values()) < LEAST_IMAGES):
        return None
    codes = [sums.codes(batch["camera"]) for batch in gallery.batches(["camera"])]
    return CameraNorm(FULL if mode == AUTO else mode, sums, np.concatenate(codes))


def near_rows(rows: np.ndarray, k: int, index: str = AUTO) -> Neighbours:
    """Return the `k` nearest of the rows (n, D) for each of them, itself first.

    Args:
        index: "exact", a name in INDEXES, or "auto": exact for up to EXACT_ROWS rows, else IVF if FAISS is installed.
    Raises:
        MissingPackageError: a FAISS index is named and FAISS is not installed.
    """
    if index not in (AUTO, "exact", *INDEXES):
        raise UserError(f"--index: unknown value {index!r}; choose from {AUTO}, exact, {', '.join(INDEXES)}")
    if index == AUTO:
        index = INDEX if len(rows) > EXACT_ROWS and _has_faiss(len(rows)) else "exact"
    if index == "exact":
        return find_neighbours(torch.from_numpy(rows), k)
    return Neighbours(_by_faiss(rows, k, index), _farthest(rows))


def _has_faiss(count: int) -> bool:
    try:
        import_faiss()
    except ImportError as error:
        logger.warning("%d rows are compared with each other exactly, which takes long; %s", count, error)
        return False
    return True


def _by_faiss(rows: np.ndarray, k: int, name: str) -> np.ndarray:
    """Return the neighbours (n, k) int32, each row its own first."""
    faiss: Any = import_faiss(f"--index {name}", "or choose exact")
    found = INDEXES[name](faiss, rows.shape[1], len(rows))
    if not found.is_trained:
        found.train(rows[drawn_positions(len(rows), TRAIN_PER_LIST * found.nlist)])
        found.nprobe = min(PROBED, found.nlist)
    for start in range(0, len(rows), BLOCK):
        found.add(rows[start : start + BLOCK])
    index = np.empty((len(rows), k), np.int32)
    for start in range(0, len(rows), BLOCK):
        own = np.arange(start, min(start + BLOCK, len(rows)))
        near = found.search(rows[own], k)[1]
        few = (near < 0).any(1)
        if few.any():  # lists with too few rows, or copies of one row: exactly
            near[few] = _exactly(rows, own[few], k)
        index[own] = _own_first(near, own)
    return index


def _exactly(rows: np.ndarray, some: np.ndarray, k: int) -> np.ndarray:
    squares = np.einsum("nd,nd->n", rows, rows)
    return np.concatenate([np.argsort(squares - 2 * (rows @ rows[row]), kind="stable")[None, :k] for row in some])


def _own_first(near: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return neighbours (b, k) with the rows `own` (b,) moved, or put, to the first place."""
    is_own = near == own[:, None]
    is_own[:, -1] |= ~is_own.any(1)  # where it is missing, the last neighbour makes room
    order = np.argsort(~is_own, axis=1, kind="stable")
    found = np.take_along_axis(near, order, axis=1)
    found[:, 0] = own
    return found


def _farthest(rows: np.ndarray) -> np.ndarray:
    """Return (n,) squared distance to the farthest of a sample of rows, above 0."""
    sample = rows[drawn_positions(len(rows), SAMPLE)]
    norms = np.einsum("nd,nd->n", sample, sample)
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        products = part @ sample.T
        found[start : start + BLOCK] = (norms - 2 * products).max(1) + np.einsum("nd,nd->n", part, part)
    return np.maximum(found, 1e-12)
