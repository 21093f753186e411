"""Lines of text files, with their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...common.errors import UserError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of all lines that are not empty.

    Raises:
        UserError: a line is not UTF-8; names it.
    """
    with path.open("rb") as file:
        for number, content in enumerate(file, 1):
            try:
                line = content.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
            if line:
                yield number, line


def head_of(path: Path, size: int = 65536) -> str:
    """Return the start of a file as text, without a line that is cut; "" if it is no text."""
    with path.open("rb") as file:
        content = file.read(size)
    if len(content) == size:
        content = content[: content.rfind(b"\n") + 1] or content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
