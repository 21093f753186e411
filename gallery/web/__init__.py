"""A gallery as a web page and a JSON API; needs `pip install "vitreid[serve]"`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.errors import MissingPackageError
from ..keeping.search_audit import SearchAudit
from .batcher import Embed
from .guard.limits import Limits
from .request_error import RequestError

if TYPE_CHECKING:
    from fastapi import FastAPI

Refused = RequestError  # the earlier name

__all__ = ["Limits", "Refused", "RequestError", "create_app"]


def create_app(
    gallery: Any,
    embedder: Embed,
    *,
    token: str | None = None,
    max_bytes: int = Limits.max_bytes,
    max_pixels: int = Limits.max_pixels,
    rate: float | None = None,
    hosts: Sequence[str] = (),
    batch_size: int = 32,
    audit: str | Path | None = None,
    decide: bool = False,
    enrol: bool = False,
) -> FastAPI:
    """Return the application that serves a gallery; run it with uvicorn, or `vitreid serve`.

    Args:
        gallery: an open gallery, from `Gallery.open`; with rows="kept" no other program can end the server by cutting its file
            short.
        embedder: (list of (H, W, 3) uint8 RGB images, list of camera names or None) -> (N, D) float32, with the
            gallery's `fingerprint`; called from one thread. If it has `attention(image, camera) -> (h, w)`, the page
            can draw the model's attention.
        token: required in requests, as `Authorization: Bearer TOKEN`; None = no token.
        max_bytes: size limit of a request's body.
        max_pixels: size limit of an uploaded image, width x height.
        rate: searches and embeddings per second and client address, with bursts of twice as many; None = no limit.
        hosts: accepted host names, in addition to addresses; they keep other web sites out. Empty = any name.
        batch_size: largest number of images per pass through the model.
        audit: file to which each search is appended, see `SearchAudit`; None = searches are not recorded.
        decide: visitors may decide who is who; else they may look only.
        enrol: visitors may decide, and add people from images, which are kept in the gallery's folder.
    Raises:
        ModuleNotFoundError: FastAPI is not installed; names the extra.
        ValueError: the embedder does not match the gallery, or a limit is not positive.
    """
    limits = Limits(token, max_bytes, max_pixels, rate, tuple(hosts))
    try:
        from .app import build_app  # FastAPI is an extra
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    log = SearchAudit(audit) if audit is not None else None
    return build_app(gallery, embedder, limits, batch_size, log, decide, enrol)


def missing_package(error: ModuleNotFoundError) -> MissingPackageError:
    """Return the error that names the missing package and the command that installs it."""
    return MissingPackageError(f'serving a gallery needs {error.name}: pip install "vitreid[serve]"', name=error.name)
