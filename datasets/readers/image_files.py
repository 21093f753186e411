"""Image files of a folder, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)


def walk_images(folder: str | Path) -> Iterator[str]:
    """Yield the image files in `folder` and below, sorted by name within each folder.

    Hidden files and folders are skipped. Links to folders are followed, except those that lead back to a parent folder.
    """
    return _walk(os.fspath(folder), frozenset())


def _walk(folder: str, parents: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in parents:
        return
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir():
            yield from _walk(entry.path, parents | {real})
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield entry.path
