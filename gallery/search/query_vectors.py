"""What people search with: embeddings, or images if there is an embedder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...common.errors import UserError
from ..storage.metadata import GalleryInfo


def as_vectors(queries: Any, embedder: Callable[..., np.ndarray] | None) -> np.ndarray:
    """Return embeddings, as they are, or images, embedded, as a float32 array (n, D).

    Args:
        queries: (n, D) or (D,) floats, array, tensor or lists; else an image or a list of images, as the embedder takes them.
    Raises:
        ValueError: images without an embedder, no queries, or NaN.
    """
    rows = _as_floats(queries)
    if rows is None:
        if embedder is None:
            raise UserError(
                f"queries: expected embeddings (n, D) of floats, got {_describe(queries)}; to search by image open the "
                "gallery with an embedder: Gallery.open(path, embedder=Embedder(weights))"
            )
        rows = np.asarray(embedder(queries if isinstance(queries, list | tuple) else [queries]), np.float32)
    if not np.isfinite(rows).all():
        raise UserError("queries: an embedding holds NaN or infinite values")
    return rows


def _as_floats(queries: Any) -> np.ndarray | None:
    """Return (n, D) float32, or None if these are no embeddings."""
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


def check_embedder(info: GalleryInfo, path: object, embedder: Any) -> None:
    """Raise ValueError, naming the weights where the embedder knows them, unless the gallery was made by such an embedder.

    Args:
        info, path: of the gallery.
    """
    weights = getattr(embedder, "weights", None)
    what = "those of the embedder" if weights is None else f"those of the weights {weights}"
    check_model(info, path, embedder.fingerprint, what, getattr(embedder, "name", ""))


def check_model(info: GalleryInfo, path: object, found: str, what: str, name: str = "") -> None:
    """Raise ValueError, showing both models, unless embeddings are of the gallery's.

    Args:
        info, path: of the gallery.
        found, name: fingerprint and, where it is known, name of the model that made the embeddings.
        what: whose they are, for the message.
    """
    if found != info.model:
        ours, theirs = (", ".join(filter(None, pair)) for pair in ((info.model_name, info.model), (name, found)))
        raise UserError(
            f"the embeddings of the gallery {path} are by {ours}; {what} are by {theirs}: another model or preprocessing, "
            "so that distances would mean nothing; use the weights that the gallery was made with, or export it again"
        )
