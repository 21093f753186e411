"""A rewritten folder takes the place of the old one; a crash leaves one of the two."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from .info import FILE


def new_folder(path: Path) -> Path:
    """Return the empty folder beside `path` in which its replacement is written."""
    folder = _beside(path, "new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def swap_in(path: Path) -> None:
    """Put the replacement, complete by now, where `path` was."""
    old = _beside(path, "old")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    recover(path)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """Finish a swap that was interrupted between its two renames."""
    if path.exists():
        return
    for kind in ("new", "old"):  # the new folder was complete before the old one was moved
        if (_beside(path, kind) / FILE).is_file():
            with suppress(FileNotFoundError):  # another process was quicker
                _beside(path, kind).rename(path)
            return


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")
