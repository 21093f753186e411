"""Rows that are older than a gallery may keep them."""

from __future__ import annotations

import re
import time

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ..milvus.milvus_gallery import MilvusGallery
from ..storage.gallery import Gallery
from .suppress_list import EXPIRED

SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def age_of(text: str) -> float:
    """Return the seconds of an age such as 30d: hours (h), days (d) or weeks (w).

    >>> age_of("30d"), age_of("1.5h")
    (2592000.0, 5400.0)

    Raises:
        UserError: it is written in another way, or not above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text.strip())
    if found is None or not float(found[1]):
        raise UserError(f"--expire-after: an age such as 30d (d days, h hours, w weeks), above 0, got {text!r}")
    return float(found[1]) * SECONDS[found[2]]


def expired_ids(gallery: Gallery | MilvusGallery, age: float, now: float | None = None) -> np.ndarray:
    """Return the ids (n,) of the live rows whose `time` is more than `age` seconds ago; rows without a time never expire."""
    table = gallery.select(["id", "time"]).filter(pa.array(gallery.is_live))
    times = table["time"].to_numpy()
    return table["id"].to_numpy()[times < (time.time() if now is None else now) - age]  # NaN = without a time: False


def expire(gallery: Gallery | MilvusGallery, age: float, now: float | None = None) -> int:
    """Remove the rows of `expired_ids`, which stay out from now on; return how many. Their embeddings go with `compact`."""
    with gallery.writing():
        ids = expired_ids(gallery, age, now)
        return gallery.remove(ids, EXPIRED) if len(ids) else 0
