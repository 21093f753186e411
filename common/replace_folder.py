"""Replace a folder by a rewritten one. A crash leaves one of the two complete; files of the user always survive.

A folder G holds own files, named by its caller, and others, which belong to the user. During a replacement these
folders lie next to it: `.G.new`, incomplete, later renamed to `.G.ready`, and `.G.old`, the earlier G. Between two renames
there is no G: the next process that looks for it takes `.G.ready`.

The own files of a folder are given as their names, or as a function of the folder that returns them. A name is a path in the
folder, such as `gallery.json` or `query/1.jpg`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from .inputs.regular_files import NotRegularFileError
from .locks import FILE as LOCK
from .locks import WriterLock

Own: TypeAlias = Collection[str] | Callable[[Path], Collection[str]]
KINDS = ("old", "new", "ready")  # of the folders next to it
PAUSE, PATIENCE = 0.01, 10.0  # seconds: between two attempts to take a place, in all
READER_PATIENCE = 2.0  # seconds, of a reader that finds no file while the folder is replaced
T = TypeVar("T")


@contextmanager
def locked_place(path: Path, own: Own) -> Iterator[WriterLock]:
    """Finish an interrupted replacement of the folder, make it if it does not exist, and yield its lock, held.

    A folder that was made and is empty when the block fails is removed again.

    Raises:
        BlockingIOError: another process is writing into it.
        FileExistsError: the remains of an interrupted replacement cannot be cleared away.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        recover(path, own)
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        try:
            with WriterLock(path) as lock:
                if not _is_between(path):  # else it was made while another process had moved the folder aside
                    yield lock
                    return
        except BaseException:
            if is_new:
                with suppress(OSError):  # it holds something
                    path.rmdir()
            raise
        time.sleep(PAUSE)
    old, ready = _next_to(path, "old"), _next_to(path, "ready")
    raise FileExistsError(f"{path} is in the place of {ready}, which is to replace {old}; move {path} away")


@contextmanager
def replacement(path: Path, lock: WriterLock, own: Own) -> Iterator[Path]:
    """Yield an empty folder; if the block ends without an error, it replaces `path`. The user's files are moved into it.

    Args:
        lock: of `path`, held.
        own: the folder's own files.
    """
    clear(path, own)
    folder = _next_to(path, "new")
    folder.mkdir()
    try:
        yield folder
        lock.extend(folder)
        _swap_in(path, own)
    except (Exception, KeyboardInterrupt):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_through(file: Path, own: Own, read: Callable[[], T]) -> T:
    """Return `read()`, which reads the file and others in its folder; once more if the folder was replaced meanwhile.

    Args:
        own: the folder's own files.
    Raises:
        FileNotFoundError: of `read`; the file does not exist, and no replacement is why.
    """
    until = time.monotonic() + READER_PATIENCE
    while True:
        recover(file.parent, own)
        before = _identity(file.parent)
        try:
            return read()
        except FileNotFoundError:
            if time.monotonic() > until or not _was_replaced(file, before):
                raise
        time.sleep(PAUSE)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a folder, which differs from that of its replacement; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _was_replaced(file: Path, before: tuple[int, int] | None) -> bool:
    """Return whether the file's folder is being replaced, or has been since it was `before`."""
    if _is_between(file.parent) or _identity(file.parent) != before:
        return True
    return os.path.lexists(_next_to(file.parent, "old") / file.name)  # a file of the user, not yet brought along


def recover(path: Path, own: Own) -> None:
    """Finish an interrupted swap. A folder that was incomplete, or had not replaced anything yet, is left alone; so are links."""
    if not _is_folder(_next_to(path, "old")):
        return
    with suppress(OSError):  # another process was quicker; a read-only one leaves it to the next writer, see `clear`
        if _is_between(path):
            _make_room(path)
            _next_to(path, "ready").rename(path)
    with suppress(OSError):
        if path.exists() and not _is_between(path):
            _bring_along(_next_to(path, "old"), path, own)


def _make_room(path: Path) -> None:
    """Remove the empty folder of a writer that came while there was none; it may still hold its lock."""
    if path.exists():
        with WriterLock(path):
            pass
        path.rmdir()


def clear(path: Path, own: Own) -> None:
    """Finish an interrupted swap, or remove its remains next to `path`; the lock of `path` is held.

    Raises:
        FileExistsError: a file of the user exists in both folders.
        NotRegularFileError: a link is in the place of one of the folders.
    """
    for kind in KINDS:
        refuse_link(_next_to(path, kind))
    old = _next_to(path, "old")
    if old.exists():
        _bring_along(old, path, own)
    if old.exists():
        name = min(item.name for item in old.iterdir())
        both = f"{name} is both in {path} and, from before an interruption, in {old}"
        raise FileExistsError(f"{both}; move the latter away")
    for kind in ("new", "ready"):
        shutil.rmtree(_next_to(path, kind), ignore_errors=True)


def _swap_in(path: Path, own: Own) -> None:
    new, old, ready = (_next_to(path, kind) for kind in ("new", "old", "ready"))
    new.rename(ready)  # from here on it counts as complete
    path.rename(old)
    _take_place(ready, path)
    _bring_along(old, path, own)


def _take_place(ready: Path, path: Path) -> None:
    """Rename the new folder. A reader may be quicker, see `recover`, and a writer may be leaving, see `locked_place`."""
    until = time.monotonic() + PATIENCE
    while ready.exists():
        try:
            ready.rename(path)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def _is_between(path: Path) -> bool:
    """Return whether the folder was moved aside, and the new one is not yet in its place."""
    return _is_folder(_next_to(path, "ready")) and _is_folder(_next_to(path, "old"))


def _is_folder(path: Path) -> bool:
    """Return whether there is a folder; a link to one, which a stranger may have put there, is none."""
    return path.is_dir() and not path.is_symlink()


def _bring_along(old: Path, path: Path, own: Own) -> None:
    """Move the user's files from `old` to `path` and delete the rest; other processes may do the same at this time."""
    with suppress(FileNotFoundError):
        _sort_out(old, path, own(old) if callable(own) else own)


def _sort_out(old: Path, path: Path, own: Collection[str]) -> None:
    for item in sorted(old.iterdir()):
        below = {name.partition("/")[2] for name in own if name.startswith(f"{item.name}/")}
        if item.name in own:
            continue
        if below and item.is_dir() and not item.is_symlink():
            with suppress(FileNotFoundError):
                (path / item.name).mkdir(exist_ok=True)
                _sort_out(item, path / item.name, below)
                with suppress(OSError):  # only an empty folder is removed
                    (path / item.name).rmdir()
        elif not os.path.lexists(path / item.name):
            with suppress(FileNotFoundError):
                item.rename(path / item.name)
    for name in sorted(own):  # after those in folders below: a list of the own files goes last
        if "/" not in name:
            (old / name).unlink(missing_ok=True)
    if not any(old.iterdir()):
        old.rmdir()


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to a file that is to be written, and delete it; also what a killed process left there.

    Raises:
        BlockingIOError: another process is writing this file.
        NotRegularFileError: a link is in the place of the folder.
    """
    folder = path.absolute().with_name(f".{path.name}.partial")
    refuse_link(folder)
    folder.mkdir(exist_ok=True)
    try:
        with WriterLock(folder):
            _empty(folder)
            try:
                yield folder
            finally:
                _empty(folder)
    finally:
        with suppress(OSError):  # another process uses it already
            folder.rmdir()


def refuse_link(folder: Path) -> None:
    """Raise NotRegularFileError for a link, through which files of another folder would be deleted."""
    if folder.is_symlink():
        raise NotRegularFileError(f"{folder} is a link, so nothing is written there; remove it")


def _empty(folder: Path) -> None:
    for item in sorted(folder.iterdir()):
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name != LOCK:
            item.unlink()


def _next_to(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")
