"""Queries of a search: embeddings, or images if there is an embedder; and the check that both come from one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...common.errors import UserError
from ..storage.metadata import GalleryInfo
from .exact_index import LARGEST


def as_vectors(queries: Any, embedder: Callable[..., np.ndarray] | None) -> np.ndarray:
    """Return queries as a float32 array (n, D); images are embedded.

    Args:
        queries: (n, D) or (D,) floats as array, tensor or lists; else an image or a list of images, as the embedder takes them.
    Raises:
        ValueError: images without an embedder, or no queries.
    """
    rows = _as_floats(queries)
    if rows is not None:
        return rows
    if embedder is None:
        raise UserError(
            f"queries: expected embeddings (n, D) of floats, got {_describe(queries)}; to search by image open the "
            "gallery with an embedder: Gallery.open(path, embedder=Embedder(weights))"
        )
    return np.asarray(embedder(queries if isinstance(queries, list | tuple) else [queries]), np.float32)


def _as_floats(queries: Any) -> np.ndarray | None:
    """Return (n, D) float32, or None if the queries are no embeddings."""
    if hasattr(queries, "detach"):
        queries = queries.detach().cpu().numpy()
    if isinstance(queries, list | tuple):
        if not queries:
            raise UserError("queries: there is none; give at least one embedding or image")
        if not all(
            isinstance(item, float | list | np.ndarray | np.floating) or hasattr(item, "detach") for item in queries
        ):
            return None
        parts = [item.detach().cpu().numpy() if hasattr(item, "detach") else np.asarray(item) for item in queries]
        if any(part.dtype.kind != "f" or part.ndim != parts[0].ndim or part.ndim > 1 for part in parts):
            return None
        if len({part.shape for part in parts}) > 1:
            raise UserError(f"queries: embeddings of different sizes, {sorted({len(part) for part in parts})}")
        queries = np.stack(parts)
    if not isinstance(queries, np.ndarray) or queries.dtype.kind != "f" or queries.ndim not in (1, 2):
        return None
    rows = np.atleast_2d(queries).astype(np.float32)
    if not len(rows):
        raise UserError("queries: there is none; give at least one embedding or image")
    return rows


def _describe(queries: Any) -> str:
    if isinstance(queries, np.ndarray):
        return f"an array of {queries.dtype} {queries.shape}"
    return repr(queries)[:80]


def check_queries(queries: np.ndarray, dimension: int, topk: int) -> np.ndarray:
    """Return the queries (Q, D) as float32.

    Raises:
        ValueError: another shape, NaN, infinite or too large values, or `topk` below 1.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(f"queries: expected (n, {dimension}), the gallery's dimension, got shape {queries.shape}")
    if not np.isfinite(queries).all():
        raise UserError("queries: an embedding holds NaN or infinite values")
    if (largest := np.abs(queries).max(initial=0)) > LARGEST:
        raise UserError(
            f"queries: an embedding holds the value {largest:g}, accepted are values up to {LARGEST:g}; "
            "search with embeddings of the gallery's model, or scale them to unit length"
        )
    if isinstance(topk, bool) or not isinstance(topk, int | np.integer) or topk < 1:
        raise UserError(f"topk: 1 or more results, got {topk!r}")
    return queries


def check_embedder(info: GalleryInfo, path: object, embedder: Any) -> None:
    """Raise ValueError, naming the weight file if it is known, unless the embedder made the gallery's embeddings.

    Args:
        info, path: description and location of the gallery.
    """
    weights = getattr(embedder, "weights", None)
    what = "those of the embedder" if weights is None else f"those of the weights {weights}"
    check_model(info, path, embedder.fingerprint, what, getattr(embedder, "name", ""))


def check_model(info: GalleryInfo, path: object, found: str, what: str, name: str = "") -> None:
    """Raise ValueError, naming both models, unless `found` is the model of the gallery.

    Args:
        info, path: description and location of the gallery.
        found, name: fingerprint and, if known, name of the model that made other embeddings.
        what: description of these embeddings, for the message.
    """
    if found != info.model:
        ours, theirs = (", ".join(filter(None, pair)) for pair in ((info.model_name, info.model), (name, found)))
        raise UserError(
            f"the embeddings of the gallery {path} are by {ours}; {what} are by {theirs}: another model or preprocessing, "
            "so distances between them have no meaning; use the weights that made the gallery, or export it again"
        )
