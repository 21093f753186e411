"""Results as JSON: rows with named values (supervision's JSONSink) and Ultralytics' `to_json`, one list per frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...datasets.box_columns import CORNER_NAMES, BoxColumns, flat_row
from ..class_names import Names
from .csv_table import RowReader
from .given_boxes import GivenBoxes
from .text_files import read_json

EXPECTED = (
    "expected a list of boxes with a frame (or path) each, or one list per frame in order; with Ultralytics: "
    "[json.loads(result.to_json()) for result in results]"
)


def read_result_json(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a result file.

    Args:
        class_names: of class numbers 0, 1, …; None = numbers stay numbers.
    Raises:
        UserError: the boxes name no frame, or an entry is wrong; names it and the reason.
    """
    data = read_json(path)
    if not isinstance(data, list):
        raise UserError(f"{path}: {EXPECTED}; found {type(data).__name__}")
    by_frame = any(isinstance(one, list) for one in data)
    reader: RowReader | None = None
    for where, row in _frame_rows(data, path) if by_frame else _rows(data, path):
        if reader is None:
            columns = BoxColumns.find(list(row))
            if columns is None or not {"frame", "picture", "seconds"} & set(columns.others):
                raise UserError(f"{where}: {EXPECTED}; found the keys {', '.join(row)}")
            reader = RowReader(columns, class_names)
        reader.add(row, where)
    if reader is None:
        reader = RowReader(BoxColumns(CORNER_NAMES, "corners", {"frame": "frame"}))
    return reader.finish(path, **({"first_frame": 0, "num_frames": len(data)} if by_frame else {}))


def is_result_json(path: Path, head: str) -> bool:
    """Return whether a JSON file starts as a list, or has one value per line."""
    return path.suffix.lower() in (".json", ".jsonl", ".ndjson") and head.lstrip()[:1] in ("[", "{")


def _rows(data: Sequence[Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(data):
        where = f"{path}: entry {number}"
        yield where, flat_row(row, where)


def _frame_rows(data: Sequence[Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for frame, rows in enumerate(data):
        if not isinstance(rows, list):
            raise UserError(f"{path}: entry {frame} is no list, unlike others; {EXPECTED}")
        for number, row in enumerate(rows):
            where = f"{path}: entry {number} of frame {frame}"
            yield where, {**flat_row(row, where), "frame": frame}
