"""The rows of a gallery as they are compared, and the nearest others of each, exactly or by lists."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError, choose
from ...evaluation.reranking.neighbour_lists import nearest_neighbours, neighbours_by_lists
from ...evaluation.reranking.neighbours import Neighbours, find_neighbours
from ...labels.camera_norm import CAMERA_NORMS, FULL, LEAST_IMAGES, OFF
from ..storage.camera_statistics import UNKNOWN, CameraNorm
from ..storage.gallery import Gallery
from ..storage.row_checks import accepted_lengths, squared_lengths

logger = logging.getLogger(__name__)
BLOCK = 2**16  # rows read at once
AUTO = "auto"
# --index -> a search for the k nearest
SEARCHES: dict[str, Callable[[Tensor, int], Neighbours]] = {
    AUTO: nearest_neighbours,
    "exact": find_neighbours,
    "lists": neighbours_by_lists,
}


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
        index: a key of SEARCHES; "auto" = exact for up to 100,000 rows, else by lists.
    Raises:
        UserError: the index is unknown.
    """
    return choose("--index", index, SEARCHES)(torch.from_numpy(rows), k)
