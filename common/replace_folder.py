"""Replace a folder by a rewritten one. A crash leaves one of the two complete; files of the user always survive.

A folder G holds own files, listed by its caller, and others, which belong to the user. During a replacement these
folders lie next to it: `.G.new`, incomplete, later renamed to `.G.ready`, and `.G.old`, the earlier G.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .locks import WriterLock


@contextmanager
def replacement(path: Path, lock: WriterLock, own: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder; if the block ends without an error, it replaces `path`. The user's files are moved into it.

    Args:
        lock: of `path`, held.
        own: names of the folder's own files.
    """
    clear(path, own)
    folder = _next_to(path, "new")
    folder.mkdir()
    try:
        yield folder
        lock.extend(folder)
        _swap_in(path, own)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def recover(path: Path, own: Collection[str]) -> None:
    """Finish an interrupted swap. A folder that was incomplete, or had not replaced anything yet, is left alone."""
    old, ready = _next_to(path, "old"), _next_to(path, "ready")
    if not old.exists():
        return
    if not path.exists() and ready.exists():
        with suppress(FileNotFoundError):  # another process was quicker
            ready.rename(path)
    if path.exists():
        with suppress(OSError):  # a read-only process leaves it to the next writer, see `clear`
            _bring_along(old, path, own)


def clear(path: Path, own: Collection[str]) -> None:
    """Finish an interrupted swap, or remove its remains next to `path`; the lock of `path` is held.

    Raises:
        FileExistsError: a file of the user exists in both folders.
    """
    old = _next_to(path, "old")
    if old.exists():
        _bring_along(old, path, own)
    if old.exists():
        name = min(item.name for item in old.iterdir())
        both = f"{name} is both in {path} and, from before an interruption, in {old}"
        raise FileExistsError(f"{both}; move the latter away")
    for kind in ("new", "ready"):
        shutil.rmtree(_next_to(path, kind), ignore_errors=True)


def _swap_in(path: Path, own: Collection[str]) -> None:
    old, ready = _next_to(path, "old"), _next_to(path, "ready")
    _next_to(path, "new").rename(ready)  # from here on it counts as complete
    path.rename(old)
    with suppress(FileNotFoundError):  # a reader was quicker, see `recover`
        ready.rename(path)
    _bring_along(old, path, own)


def _bring_along(old: Path, path: Path, own: Collection[str]) -> None:
    """Move the user's files from `old` to `path` and delete the rest; other processes may do the same at this time."""
    with suppress(FileNotFoundError):
        for item in sorted(old.iterdir()):
            if item.name not in own and not os.path.lexists(path / item.name):
                with suppress(FileNotFoundError):
                    item.rename(path / item.name)
        for name in sorted(own):
            (old / name).unlink(missing_ok=True)
        if not any(old.iterdir()):
            old.rmdir()


def _next_to(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")
