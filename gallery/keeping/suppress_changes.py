"""Changes of a gallery's list of removed rows: taken over from another gallery, or let go."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa

from ..milvus.milvus_gallery import MilvusGallery
from ..storage.gallery import Gallery
from .row_keys import are_in
from .suppress_list import joined, keys_in

logger = logging.getLogger(__name__)


def inherit(target: Gallery, source: Gallery | MilvusGallery) -> None:
    """Add the entries of the source's list to the target's; those of rows that live in the target are left out and logged."""
    theirs = source.suppressed
    if not len(theirs):
        return
    lives = are_in(keys_in(theirs), target.live_keys())
    if lives.any():
        logger.warning(
            "%s: %d rows that were removed from %s are still here; remove them: vitreid gallery remove",
            *(target.home, int(lives.sum()), source.path),
        )
    target.set_suppressed(joined(target.suppressed, theirs.filter(pa.array(~lives))))


def allow(gallery: Gallery | MilvusGallery, since: float | None = None, reason: str | None = None) -> int:
    """Take entries off the list, so that their rows may be added again; return how many. The rows themselves do not come back.

    Args:
        since: only those of this time or later, in seconds since 1970; None = all.
        reason: only those of this reason, removed or expired; None = all.
    """
    with gallery.writing():
        before = gallery.suppressed
        stays = np.zeros(len(before), bool) if since is None else before["time"].to_numpy() < since
        if reason is not None:
            stays |= np.array([other != reason for other in before["reason"].to_pylist()], bool)
        gallery.set_suppressed(before.filter(pa.array(stays)))
        return int((~stays).sum())
