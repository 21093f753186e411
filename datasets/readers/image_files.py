"""Image files of a folder, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
# pictures that are not read: not every OpenCV decodes them
OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".psd", ".raw", ".dng")


def list_images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted by name; hidden ones are skipped."""
    return sorted(path for path in folder.iterdir() if _suffix(path.name) in EXTENSIONS)


def walk_images(folder: str | Path, extensions: tuple[str, ...] = EXTENSIONS) -> Iterator[str]:
    """Yield the image files in `folder` and below, sorted by name within each folder.

    Hidden files and folders are skipped. Links to folders are followed, except those that lead back to a parent folder.
    """
    return _walk(os.fspath(folder), frozenset(), extensions)


def _walk(folder: str, parents: frozenset[str], extensions: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in parents:
        return
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir():
            yield from _walk(entry.path, parents | {real}, extensions)
        elif _suffix(entry.name) in extensions:
            yield entry.path


def _suffix(name: str) -> str:
    """Return the ending of a file's name, in small letters; "" for a hidden file."""
    return "" if name.startswith(".") else os.path.splitext(name)[1].lower()
