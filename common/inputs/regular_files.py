"""Open files that somebody else may have made: regular files only, never a pipe, device or socket, up to a stated size.

Opening a pipe waits for a writer, and `/dev/zero` has no end. Every reader of the house opens its files here.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError
from ..text import parse_json

CONFIG_BYTES = 2**20  # a recipe has some kB
JSON_BYTES = 2**28  # gallery.json lists the removed ids, 10 bytes each
IMAGE_BYTES = 2**28
TABLE_BYTES = 2**30  # some ten million lines
LINE_BYTES = CHUNK = 2**20

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a link"),
)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]")
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # flag of os.open: a link as the last part of the path is an error


class NotRegularFileError(UserError):
    """A pipe, a device or a socket in the place of a file, or a link in the place of a file of ours."""


class FileTooLargeError(UserError):
    """A file with more bytes than its kind may have."""


def open_regular(path: str | Path, most: int | None = None) -> BinaryIO:
    """Return the file, opened for reading without a buffer; links are followed.

    Args:
        most: largest accepted size in bytes; None = any.
    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: as `open`.
        NotRegularFileError: the path is a pipe, a device or a socket.
        FileTooLargeError: the file has more than `most` bytes.
    """
    return os.fdopen(_opened(path, most)[0], "rb", buffering=0)


def _opened(path: str | Path, most: int | None) -> tuple[int, int]:
    """Return the handle and the size of the file; raise as `open_regular`."""
    check_regular(path, most)  # before it is opened: to open a device can have an effect
    handle = os.open(path, _READ)
    try:
        return handle, _check(os.fstat(handle), path, most)  # it may have been replaced since
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: str | Path, most: int | None = None) -> None:
    """Raise as `open_regular`; for libraries that open a file by its name."""
    _check(os.stat(path), path, most)


def check_video(path: str | Path) -> None:
    """Raise as `open_regular`, or UserError for a playlist: FFmpeg would open the files that it names."""
    with open_regular(path) as file:
        start = file.read(64).lstrip()
    if start.startswith(_PLAYLISTS):
        raise UserError(f"{path} is a playlist, which names other files; give the video itself")


def _check(status: os.stat_result, path: str | Path, most: int | None) -> int:
    check_kind(status.st_mode, path)
    if most is not None and status.st_size > most:
        raise FileTooLargeError(
            f"{path} has {status.st_size / 1e6:,.0f} MB, more than the {most / 1e6:,.0f} MB that are read; is it the right file?"
        )
    return status.st_size


def check_kind(mode: int, path: str | Path) -> None:
    """Raise unless the mode of `os.stat` is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((name for matches, name in _KINDS if matches(mode)), "no regular file")
        raise NotRegularFileError(f"{path} is {kind}, so it is not opened; put a regular file there")


def read_bytes(path: str | Path, most: int) -> bytes:
    """Return the content of a file of up to `most` bytes; raise as `open_regular`."""
    handle, size = _opened(path, most)
    try:
        content = os.read(handle, size + 1)
        if len(content) == size:
            return content
        parts, size = [content], len(content)  # it grows meanwhile, or lies below /proc, where files have no size
        while size <= most and (part := os.read(handle, 2**16)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(handle)
    if size > most:
        raise FileTooLargeError(f"{path} has more than the {most / 1e6:,.0f} MB that are read; is it the right file?")
    return b"".join(parts)


def read_text(path: str | Path, most: int, errors: str = "strict") -> str:
    """Return the content of a UTF-8 file.

    Args:
        errors: reaction to other bytes, as for `bytes.decode`.
    Raises:
        UnicodeDecodeError: other bytes under "strict"; or as `read_bytes`.
    """
    return read_bytes(path, most).decode("utf-8", errors).replace("\r\n", "\n")


def read_json(path: str | Path, most: int = JSON_BYTES) -> Any:
    """Return the content of a JSON file; raise as `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, most), str(path))


def read_chunks(path: str | Path) -> Iterator[bytes]:
    """Yield the content of a file of any size in parts; raise as `open_regular`."""
    with open_regular(path) as file:
        while part := file.read(CHUNK):
            yield part


def read_lines(path: str | Path, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a table in UTF-8, with or without a byte order mark, as the module `csv` wants them.

    Args:
        errors: reaction to other bytes, as for `bytes.decode`.
    Raises:
        UnicodeDecodeError: not UTF-8; its `object` is the line.
        FileTooLargeError: the file, or one line of it, is too long; or as `open_regular`.
    """
    with open_regular(path, TABLE_BYTES) as raw, io.BufferedReader(raw) as file:  # type: ignore[type-var]
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise FileTooLargeError(
                    f"{path}:{number}: the line has more than {LINE_BYTES} bytes; is it the right file?"
                )
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            yield from filter(None, re.split(r"(?<=\r)(?!\n)", text))  # lines may end in \r alone


def open_own(path: str | Path, flags: int) -> int:
    """Return a handle of a file in a folder of ours, made if `flags` say so; a link in its place is never followed.

    A stranger's folder may hold a link of that name, through which a write would replace another file.

    Args:
        flags: as for `os.open`.
    Raises:
        NotRegularFileError: it is a link, a pipe or a device.
        OSError: as `os.open`.
    """
    try:
        if not stat.S_ISREG(mode := os.lstat(path).st_mode):
            check_kind(mode, path)
    except FileNotFoundError:
        pass
    handle = os.open(path, flags | NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        check_kind(os.fstat(handle).st_mode, path)
    except BaseException:
        os.close(handle)
        raise
    return handle
