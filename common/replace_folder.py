"""A rewritten folder takes the place of the old one; a crash leaves one of the two, and the user's files always.

Beside a gallery G lie meanwhile `.G.new`, not complete yet, then renamed to `.G.ready`, and `.G.old`, which was G before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..gallery.maintenance.projection import FILE as PROJECTION_FILE
from ..gallery.storage import embeddings_file as vectors
from ..gallery.storage import records_file as table
from ..gallery.storage.metadata import FILE as INFO_FILE
from .locks import FILE as LOCK_FILE
from .locks import WriterLock

FILES = (vectors.FILE, table.FILE, PROJECTION_FILE, INFO_FILE)
OWN = frozenset(
    {LOCK_FILE, *(prefix + name + suffix for name in FILES for prefix, suffix in (("", ""), (".", ".tmp")))}
)


@contextmanager
def replacement(path: Path, lock: WriterLock) -> Iterator[Path]:
    """Yield an empty folder; if the block ends without an error, it takes the place of `path`.

    What lies in `path` and is not the gallery's own, such as the images, is moved along.

    Args:
        lock: of `path`, held.
    Raises:
        FileExistsError: see `clear`.
    """
    clear(path)
    folder = _beside(path, "new")
    folder.mkdir()
    try:
        yield folder
        lock.extend(folder)
        _swap_in(path)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def recover(path: Path) -> None:
    """Finish a swap that was interrupted; what was not complete, or never took the place of anything, is left alone."""
    old, ready = _beside(path, "old"), _beside(path, "ready")
    if not old.exists():
        return
    if not path.exists() and ready.exists():
        with suppress(FileNotFoundError):  # another process was quicker
            ready.rename(path)
    if path.exists():
        with suppress(OSError):  # who may only read leaves it to the next writer, see `clear`
            _bring_along(old, path)


def clear(path: Path) -> None:
    """Finish, or remove, what an interrupted writer has left beside `path`, whose lock is held.

    Raises:
        FileExistsError: a file of the user's is there twice.
    """
    old = _beside(path, "old")
    if old.exists():
        _bring_along(old, path)
    if old.exists():
        name = min(item.name for item in old.iterdir())
        raise FileExistsError(
            f"{name} is both in {path} and, from before an interruption, in {old}; move the latter away"
        )
    for kind in ("new", "ready"):
        shutil.rmtree(_beside(path, kind), ignore_errors=True)


def _swap_in(path: Path) -> None:
    old, ready = _beside(path, "old"), _beside(path, "ready")
    _beside(path, "new").rename(ready)  # from here on it counts as complete
    path.rename(old)
    with suppress(FileNotFoundError):  # a reader was quicker, see `recover`
        ready.rename(path)
    _bring_along(old, path)


def _bring_along(old: Path, path: Path) -> None:
    """Move what is not the gallery's own from `old` to `path`, and delete the rest; others may be doing the same."""
    with suppress(FileNotFoundError):
        for item in sorted(old.iterdir()):
            if item.name not in OWN and not os.path.lexists(path / item.name):
                with suppress(FileNotFoundError):
                    item.rename(path / item.name)
        for name in sorted(OWN):
            (old / name).unlink(missing_ok=True)
        if not any(old.iterdir()):
            old.rmdir()


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")
