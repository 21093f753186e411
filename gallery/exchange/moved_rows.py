"""What changes when rows move into the folder of another gallery: relative paths, and what the embeddings are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..storage.metadata import GalleryInfo


def moved_path(path: str, start: Path, folder: Path) -> str:
    """Return a path that starts at `folder` in place of `start`; an absolute one stays.

    >>> moved_path("a/1.jpg", Path("/data/old"), Path("/data/new")), moved_path("/a/1.jpg", Path("/x"), Path("/y"))
    ('../old/a/1.jpg', '/a/1.jpg')
    """
    return path if os.path.isabs(path) else os.path.relpath(start / path, folder)


def moved_info(info: GalleryInfo, dimension: int) -> GalleryInfo:
    """Return the description of the same embeddings as float rows; those of a projection count as those of another model.

    The projection itself does not move, so new images cannot be compared with projected rows.
    """
    dtype = info.dtype if info.dtype == "float16" else "float32"
    model = f"{info.model} projected by {info.projection}" if info.projection else info.model
    return replace(info, model=model, dimension=dimension, dtype=dtype, scale=None, projection=None)
