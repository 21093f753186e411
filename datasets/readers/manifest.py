"""Data set `manifest`: a CSV file with path, pid, camid, split and optionally viewid; pids and cameras are free text."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UserError
from ...labels.column_names import find_columns
from ...labels.label_text import UNKNOWN, are_whole_numbers, without_decimals
from ...labels.name_options import JUNK
from ...labels.name_pattern import NamePattern
from ..records import Record, ReidData

logger = logging.getLogger(__name__)

FIELDS = {
    "path": "path",
    "pid": "pid",
    "camera": "camid",
    "split": "split",
    "view": "viewid",
}  # field -> name in messages
NEEDED = ("path", "pid", "camera", "split")
SPLITS = ("train", "query", "gallery")
NAMED = 5  # wrong lines listed in an error; further ones are counted


class Line(NamedTuple):
    """A line of a manifest."""

    path: str
    pid: str
    camera: str
    split: str
    view: str


def load_manifest(file: str | Path, camera_pattern: str = "") -> ReidData:
    """Read a manifest. Pids, camids and viewids are numbered in the order of the sorted names.

    Relative paths start at the CSV file's folder. With one camera, only the query's own file is junk (protocol "own-file"). Lines
    of pid -1 are junk and left out.

    Args:
        camera_pattern: regular expression that finds the camera's name in the path, for a file without the column camid.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or lines are wrong; names file and lines.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        expected = ", ".join(FIELDS[field] for field in NEEDED)
        raise FileNotFoundError(f"DATASETS.MANIFEST: no file {str(file)!r}; expected a CSV with {expected}")
    rows = _without_junk(file, _plain_numbers(_read(file, camera_pattern)))
    persons, cameras, views = (_names(getattr(row, field) for row in rows) for field in ("pid", "camera", "view"))
    records: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for row in rows:
        records[row.split].append(Record(row.path, persons[row.pid], cameras[row.camera], views.get(row.view, -1)))
    if bool(records["query"]) != bool(records["gallery"]):
        empty = "gallery" if records["query"] else "query"
        raise UserError(f"{file}: no line has the split {empty}; query and gallery are needed together")
    person_names = {pid: person for person, pid in persons.items()}
    if len(cameras) == 1:
        logger.warning("%s: one camera only; images from a query's own camera count as matches", file)
    _warn_of_overlap(file, records, person_names)
    return ReidData(
        "manifest",
        train=records["train"],
        query=records["query"],
        gallery=records["gallery"],
        camera_names=tuple(cameras),
        view_names=tuple(views),
        person_names=person_names,
        protocol="same-camera" if len(cameras) > 1 else "own-file",
    )


def _warn_of_overlap(file: Path, records: dict[str, list[Record]], names: dict[int, str]) -> None:
    """Log people in both the training and the query set: their results do not generalise to new people."""
    trained, queried = ({record.pid for record in records[split]} for split in ("train", "query"))
    if both := sorted(names[pid] for pid in trained & queried):
        logger.warning(
            "%s: people in training and in the test set: %d (%s); results will be too good; vitreid check-data lists them",
            *(file, len(both), ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")),
        )


def _names(values: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(values) - {""}))}


def _plain_numbers(rows: list[Line]) -> list[Line]:
    """Return the lines with 1 for pandas' 1.0, in columns of whole numbers."""
    for field in ("pid", "camera", "view"):
        if are_whole_numbers(getattr(row, field) for row in rows):
            rows = [row._replace(**{field: without_decimals(getattr(row, field))}) for row in rows]
    return rows


def _without_junk(file: Path, rows: list[Line]) -> list[Line]:
    """Return the lines of people; images of pid -1 would count as one more person."""
    kept = [row for row in rows if row.pid != JUNK]
    if len(kept) < len(rows):
        logger.info("%s: %d images of pid -1 are junk and left out", file, len(rows) - len(kept))
    if not kept:
        raise UserError(
            f"{file}: all {len(rows)} images have the pid -1, which means junk; give each person another pid"
        )
    return kept


def _read(file: Path, camera_pattern: str) -> list[Line]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            parser = _Parser(file, reader.fieldnames or [], camera_pattern)
            return parser.read(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file}: not a CSV file in UTF-8 ({error}); save it as such (Excel calls it 'CSV UTF-8')"
        ) from error


class _Parser:
    """Reads the lines of a manifest with these columns."""

    def __init__(self, file: Path, columns: Sequence[str], camera_pattern: str) -> None:
        self.file = file
        self.columns = {field: column for column, field in find_columns(columns, tuple(FIELDS), f"{file}:1").items()}
        self.pattern = None
        if camera_pattern and "camera" not in self.columns:
            self.pattern = NamePattern("DATASETS.CAMERA_PATTERN", camera_pattern)
        self.needed = [field for field in NEEDED if field != "camera" or self.pattern is None]
        if missing := [FIELDS[field] for field in self.needed if field not in self.columns]:
            hint = "; DATASETS.CAMERA_PATTERN reads cameras from the paths" if "camid" in missing else ""
            raise UserError(
                f"{file}:1: missing column {', '.join(missing)}; found {', '.join(columns) or 'nothing'}, "
                f"expected {', '.join(FIELDS[field] for field in NEEDED)} and optionally viewid, with commas between{hint}"
            )

    def read(self, reader: csv.DictReader[str]) -> list[Line]:
        """Return all lines; raise ValueError, naming the first wrong ones, if some are wrong or there is none."""
        rows, wrong = [], []
        for values in reader:
            try:
                rows.append(self._parse(f"{self.file}:{reader.line_num}", values))
            except UserError as error:
                wrong.append(str(error))
        if wrong:
            raise UserError(_summary(wrong, len(rows) + len(wrong)))
        if not rows:
            raise UserError(f"{self.file}: no line below the column names; add one per image")
        return rows

    def _parse(self, where: str, values: dict[str, str | None]) -> Line:
        """Return a checked line, with the path from the working directory; the view may be empty."""
        texts = {field: (values.get(self.columns.get(field, "")) or "").strip() for field in FIELDS}
        texts |= {field: "" for field in ("pid", "camera", "view") if texts[field] in UNKNOWN}
        if self.pattern and texts["path"]:
            texts["camera"] = self.pattern.of(texts["path"]) or ""
        if empty := [FIELDS[field] for field in NEEDED if not texts[field]]:
            if self.pattern and empty == ["camid"]:
                raise UserError(
                    f"{where}: DATASETS.CAMERA_PATTERN {self.pattern.text!r} is not found in {texts['path']}"
                )
            raise UserError(f"{where}: {', '.join(empty)} is empty; write unknown for an unknown camera")
        if None in values:  # csv's key for values without a column
            raise UserError(f"{where}: more values than columns; put a path with commas in quotes")
        if texts["split"] not in SPLITS:
            raise UserError(f"{where}: unknown split {texts['split']!r}; choose from {', '.join(SPLITS)}")
        path = self.file.parent / texts["path"]
        if not path.is_file():
            raise UserError(f"{where}: no image {path}; {why_absent(texts['path'])}")
        return Line(**{**texts, "path": str(path)})


def is_windows_path(path: str) -> bool:
    """Return whether a path of a CSV file is one of Windows, read on another system."""
    return os.name != "nt" and ("\\" in path or re.match(r"[A-Za-z]:", path) is not None)


def why_absent(path: str) -> str:
    """Return the likely reason why a path of a CSV file leads to no file."""
    if is_windows_path(path):
        return "this is a Windows path: write / in the place of \\, from the CSV file's folder on"
    return "paths start at the CSV file's folder"


def _summary(wrong: Sequence[str], count: int) -> str:
    """Return an error message for the wrong ones among `count` lines: their number and the first few."""
    if len(wrong) == 1:
        return wrong[0]
    others = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return "\n  ".join([f"{len(wrong)} of {count} lines are wrong; correct or remove them:", *wrong[:NAMED], *others])
