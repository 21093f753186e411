"""CSV files with one box per line, in all usual sets of columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...datasets.box_columns import BoxColumns, flat_row, to_number, to_whole
from ..class_names import Names
from .box_rows import BoxRows
from .given_boxes import GivenBoxes
from .text_files import read_lines

NEEDED = (
    "expected the columns of a box (x, y, width, height; x1, y1, x2, y2; xmin, ymin, xmax, ymax; …) and one of frame, "
    "seconds, path"
)


def read_csv(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a CSV file with a line of column names.

    Args:
        class_names: of class numbers 0, 1, …; None = numbers stay numbers.
    Raises:
        UserError: columns are missing, or a line is wrong; names it and the reason.
    """
    lines = _rows(path)
    _, header = next(lines, (0, []))
    columns = BoxColumns.find(header)
    if columns is None or not {"frame", "seconds", "picture"} & set(columns.others):
        raise UserError(f"{path}:1: {NEEDED}; found {', '.join(header) or 'nothing'}")
    reader = RowReader(columns, class_names)
    for number, values in lines:
        where = f"{path}:{number}"
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values; the first line names {len(header)} columns")
        reader.add(dict(zip(header, values)), where)
    return reader.finish(path)


def is_csv(path: Path, head: str) -> bool:
    """Return whether the first line names the columns of a box."""
    first = head.splitlines()[0] if head.strip() else ""
    return any(BoxColumns.find(next(csv.reader([first], delimiter=mark), [])) for mark in ",;\t")


class RowReader:
    """Rows with named values -> boxes.

    Args:
        columns: what their columns mean.
        class_names: of class numbers 0, 1, …
    """

    def __init__(self, columns: BoxColumns, class_names: Names | None = None) -> None:
        self._columns, self._names, self.rows = columns, class_names, BoxRows()
        self._place = next(name for name in ("frame", "picture", "seconds") if name in columns.others)
        self._largest, self._whole = 0.0, True

    def add(self, values: Mapping[str, object], where: str) -> None:
        """Add a row.

        Raises:
            UserError: a value is missing or wrong; names the place.
        """
        values = flat_row(values, where)
        box = self._columns.corners(values, where)
        texts = {meaning: _text(values.get(column)) for meaning, column in self._columns.others.items()}
        self._largest = max(self._largest, *map(abs, box))
        self._whole = self._whole and all(value == int(value) for value in box)
        self.rows.add(
            box,
            **self._placed(texts, where),  # type: ignore[arg-type]
            video=texts.get("video") or None,
            score=to_number(texts["score"], f"{where}: score") if texts.get("score") else 1.0,
            label=self._label(texts.get("label") or ""),
            track=self.rows.track_number(texts["track"]) if texts.get("track") else -1,
        )

    def _placed(self, texts: Mapping[str, str], where: str) -> dict[str, object]:
        text = texts[self._place]
        if not text:
            raise UserError(f"{where}: the {self._place} is empty; every line says where its box lies")
        if self._place == "frame":
            return {"frame": to_whole(text, f"{where}: frame")}
        return {"seconds": to_number(text, f"{where}: time")} if self._place == "seconds" else {"picture": text}

    def _label(self, text: str) -> str:
        if not text:
            return "person"
        names = self._names
        known = names is not None and text.isdecimal() and int(text) < len(names)
        return str(names[int(text)]) if names is not None and known else text

    def finish(self, path: Path, **about: Any) -> GivenBoxes:
        """Return the table; boxes that all lie in 0-1, with a value in between, are fractions of the frame."""
        return self.rows.finish(path, fractions=self._largest <= 1 and not self._whole, **about)


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values), the column names first; the separator is the one that the first line has most of."""
    lines = read_lines(path)
    number, first = next(lines, (0, ""))
    mark = max(",;\t", key=first.count)
    yield number, [name.strip() for name in next(csv.reader([first], delimiter=mark), [])]
    for number, line in lines:
        try:
            yield number, next(csv.reader([line], delimiter=mark))
        except csv.Error as error:
            raise UserError(f"{path}:{number}: not a line of a CSV file ({error})") from error
