"""A folder of drawn files that is either complete or absent; a stamp file says what it was drawn from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def draw_folder(folder: Path, stamp: str, text: str, draw: Callable[[Path], None], hint: str) -> bool:
    """Draw into a new folder and move it to `folder`, unless that is complete. An interrupted call leaves nothing incomplete.

    Args:
        stamp: name of the stamp file; text: its contents, everything that decides what is drawn.
        draw: fills an empty folder.
        hint: what to do when the folder holds other files, for the message.
    Returns:
        Whether it was drawn now.
    Raises:
        FileExistsError: the folder holds files and no stamp.
    """
    if _is_done(folder, stamp, text):
        return False
    if folder.exists() and any(folder.iterdir()) and not (folder / stamp).exists():
        raise FileExistsError(f"{folder}: holds other files (no {stamp}); {hint}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draw(started)
        (started / stamp).write_text(text)
        _put(started, folder, stamp, text)
    finally:
        shutil.rmtree(started, ignore_errors=True)
    return True


def _is_done(folder: Path, stamp: str, text: str) -> bool:
    return (folder / stamp).is_file() and (folder / stamp).read_text() == text


def _put(finished: Path, folder: Path, stamp: str, text: str) -> None:
    """Move the finished folder to its place; if another process was faster, keep its folder."""
    os.chmod(finished, 0o755)
    if folder.exists() and not _is_done(folder, stamp, text):
        shutil.rmtree(folder)
    try:
        finished.rename(folder)
    except OSError:
        if not _is_done(folder, stamp, text):
            raise
