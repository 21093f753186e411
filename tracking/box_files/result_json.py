"""Results as JSON: rows with named values (supervision's JSONSink) and Ultralytics' `to_json`, one list per frame."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from .columns import BoxColumns
from .csv_table import RowReader
from .given_boxes import GivenBoxes
from .json_file import read_json

CORNER_NAMES = ("x1", "y1", "x2", "y2")
EXPECTED = (
    "expected a list of boxes with a frame (or path) each, or one list per frame in order; with Ultralytics: "
    "[json.loads(result.to_json()) for result in results]"
)


def read_result_json(path: Path, class_names: Sequence[str | None] | None = None) -> GivenBoxes:
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


def flat_row(row: Any, where: str) -> dict[str, Any]:
    """Return a row whose box is four values of its own; a box of four corners becomes the rectangle around it.

    Raises:
        UserError: the row is no object, or its box has no corners.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: {EXPECTED}; found {type(row).__name__}")
    flat = {key: value for key, value in row.items() if not isinstance(value, (Mapping, list))}
    box = row.get("box", row.get("bbox"))
    if isinstance(box, str) and box.strip().startswith("{"):  # in a CSV file
        try:
            box = ast.literal_eval(box)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{where}: the box is {box!r}") from error
    if not isinstance(box, Mapping):
        return flat
    flat.pop("box", None)
    xs = [value for key, value in box.items() if str(key).startswith("x")]
    ys = [value for key, value in box.items() if str(key).startswith("y")]
    if len(xs) != len(ys) or len(xs) < 2 or not all(isinstance(value, (int, float)) for value in [*xs, *ys]):
        raise UserError(f"{where}: the box is {dict(box)}; expected x1, y1, x2, y2")
    return {**flat, **dict(zip(CORNER_NAMES, (min(xs), min(ys), max(xs), max(ys))))}
