"""Arguments that name a gallery folder, and images to search for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.gallery.milvus.milvus_collections import PREFIX


def gallery_folder(path: str) -> str:
    """Return the argument GALLERY; raise UserError for a gallery in Milvus."""
    if path.startswith(PREFIX):
        raise UserError(f"GALLERY: {path} is stored in Milvus; copy it to a folder first: vitreid gallery from-milvus")
    return path


def check_queries_exist(paths: Sequence[str]) -> None:
    """Raise FileNotFoundError, before any model is loaded, if an image of --query does not exist."""
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise FileNotFoundError(f"--query: no file {missing[0]!r} (from {Path.cwd()})")
