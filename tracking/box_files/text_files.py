"""Text files: lines with their numbers, and JSON, whole or with one value per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.inputs import regular_files
from ...common.inputs.regular_files import JSON_BYTES, check_regular, open_regular


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of all lines that are not empty.

    Raises:
        UserError: a line is not UTF-8; names it.
    """
    number = 0
    try:
        for number, line in enumerate(regular_files.read_lines(path), 1):
            if line.strip():
                yield number, line.strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number + 1}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def head_of(path: Path, size: int = 65536) -> str:
    """Return the start of a file as text, without a line that is cut; "" if it is no text."""
    with open_regular(path) as file:
        content = file.read(size) or b""
    if len(content) == size:
        content = content[: content.rfind(b"\n") + 1] or content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; of a file with one value per line (JSON Lines), the list of them.

    Raises:
        UserError: it is neither; names the line.
    """
    check_regular(path, JSON_BYTES)
    lines = list(read_lines(path))
    try:
        return json.loads("\n".join(line for _, line in lines))
    except RecursionError:
        raise UserError(f"{path}: not JSON (nested too deeply)") from None
    except ValueError as error:
        reason = error
    values = []
    for number, line in lines:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            where = lines[reason.lineno - 1][0] if isinstance(reason, json.JSONDecodeError) and lines else number
            raise UserError(f"{path}:{where}: not JSON ({getattr(reason, 'msg', reason)})") from reason
    return values
