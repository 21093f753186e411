"""JSON files, whole or with one value per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from .text_lines import read_lines


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; of a file with one value per line (JSON Lines), the list of them.

    Raises:
        UserError: it is neither; names the line.
    """
    lines = list(read_lines(path))
    try:
        return json.loads("\n".join(line for _, line in lines))
    except ValueError as error:
        reason = error
    values = []
    for number, line in lines:
        try:
            values.append(json.loads(line))
        except ValueError:
            where = lines[reason.lineno - 1][0] if isinstance(reason, json.JSONDecodeError) and lines else number
            raise UserError(f"{path}:{where}: not JSON ({getattr(reason, 'msg', reason)})") from reason
    return values
