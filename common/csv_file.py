"""CSV files that other programs open: written atomically, in UTF-8, with no cell that a spreadsheet would compute."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import write_atomically
from .text import csv_cell


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under these column names, atomically; other values of a row are left out."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)

    write_atomically(path, write)


def path_for_csv(path: Path, folder: Path) -> str:
    """Return a file's path for a CSV file in `folder`: relative if it lies there or below, and no formula."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    if not path.is_relative_to(folder):
        return str(path)
    text = str(path.relative_to(folder))
    return text if csv_cell(text) == text else f"./{text}"  # the same file
