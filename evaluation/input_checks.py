"""Checks of features, distances and labels; an error names the array and the row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.errors import UserError

Features = Tensor | np.ndarray
Labels = Tensor | np.ndarray | Sequence[int] | Sequence[str]


def as_features(name: str, values: Features) -> Tensor:
    """Return `values` (N, D) as a float32 or float64 tensor, without a copy where possible.

    Raises:
        ValueError: not two-dimensional, or empty.
    """
    tensor = torch.as_tensor(values).detach()
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise UserError(f"{name}: expected a non-empty matrix, one row per image, got shape {tuple(tensor.shape)}")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def as_labels(name: str, values: Labels, count: int, of: str) -> np.ndarray:
    """Return `values` as an array of length `count`, int64 or of names (text), one label per row of the array called `of`.

    Raises:
        ValueError: not one integer or name per row.
    """
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.shape != (count,):
        raise UserError(f"{name}: expected {count} labels, one per row of {of}, got shape {array.shape}")
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(value, str) for value in array)):
        return array.astype(str)
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(
            f"{name}: expected integers or names, got {array.dtype}; number them, or make each of them text"
        )
    return array.astype(np.int64)


def as_label_pair(
    name: str, query: Labels, gallery: Labels, num_queries: int, num_gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of queries (Q,) and gallery (G,) as int64; names are numbered in their order, the same on both sides.

    Args:
        name: of the labels, e.g. "pids" for q_pids and g_pids.
    Raises:
        ValueError: as `as_labels`; or numbers on one side and names on the other.
    """
    first = as_labels(f"q_{name}", query, num_queries, "query")
    second = as_labels(f"g_{name}", gallery, num_gallery, "gallery")
    if first.dtype.kind != second.dtype.kind:
        kinds = ("names" if side.dtype.kind == "U" else "integers" for side in (first, second))
        raise UserError(
            f"{name}: the queries have {next(kinds)}, the gallery {next(kinds)}; use one of the two on both sides"
        )
    if first.dtype.kind == "U":
        numbers = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
        return numbers[: len(first)].astype(np.int64), numbers[len(first) :].astype(np.int64)
    return first, second


def check_finite(name: str, values: Tensor, first_row: int = 0) -> None:
    """Raise ValueError, naming the first row, if a row's value or one of its values is NaN or infinite."""
    bad = ~torch.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        rows = bad.nonzero()[:, 0].tolist()
        raise UserError(
            f"{name}: row {first_row + rows[0]} holds NaN, infinite or overflowing values ({len(rows)} such rows among {len(values)})"
        )


def pair_of_features(query: Features, gallery: Features) -> tuple[Tensor, Tensor]:
    """Return (Q, D) and (G, D) with one dtype, on the gallery's device.

    Raises:
        ValueError: one of them is no matrix, or they differ in D.
    """
    query, gallery = as_features("query", query), as_features("gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query has {query.shape[1]} features per row and gallery {gallery.shape[1]}; both must come from one model"
        )
    dtype = torch.promote_types(query.dtype, gallery.dtype)
    return query.to(gallery.device, dtype), gallery.to(dtype)


CHUNK_ELEMENTS = 2**18  # 1 MiB of float32: intermediate results stay in the processor's cache


def squared_norms(features: Tensor, origin: Tensor | None = None) -> Tensor:
    """Return the squared length (N,) of each row of (N, D) relative to `origin` (D,), None = 0; makes no (N, D) copy."""
    rows = features.shape[0] if features.is_cuda else max(1, CHUNK_ELEMENTS // features.shape[1])
    # allocated first: results between the intermediate arrays would fragment the heap
    norms = features.new_empty(len(features))
    for chunk, norm in zip(features.split(rows), norms.split(rows), strict=True):
        torch.sum(chunk.square() if origin is None else chunk.sub(origin).square_(), 1, out=norm)
    return norms
