"""Data set `manifest`: a CSV file with path, pid, camid, split and optionally viewid; pids and cameras are free text."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ..records import Record, ReidData

logger = logging.getLogger(__name__)

COLUMNS = ("path", "pid", "camid", "split")
SPLITS = ("train", "query", "gallery")
NAMED = 5  # wrong lines listed in an error; further ones are counted


def load_manifest(file: str | Path) -> ReidData:
    """Read a manifest. Pids, camids and viewids are numbered in the order of the sorted names.

    Relative paths start at the CSV file's folder. With one camera, only the query's own file is junk (protocol "own-file").

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or lines are wrong; names file and lines.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"DATASETS.MANIFEST: no file {str(file)!r}; expected a CSV with {', '.join(COLUMNS)}")
    rows = _read(file)
    persons, cameras, views = (_names(row[column] for row in rows) for column in ("pid", "camid", "viewid"))
    records: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for row in rows:
        record = Record(row["path"], persons[row["pid"]], cameras[row["camid"]], views.get(row["viewid"], -1))
        records[row["split"]].append(record)
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


def _read(file: Path) -> list[dict[str, str]]:
    try:
        return _read_rows(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file}: not a CSV file in UTF-8 ({error}); save it as such (Excel calls it 'CSV UTF-8')"
        ) from error


def _read_rows(file: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(read_lines(file))
    columns = list(reader.fieldnames or [])
    if missing := [column for column in COLUMNS if column not in columns]:
        raise UserError(
            f"{file}:1: missing column {', '.join(missing)}; found {', '.join(columns) or 'nothing'}, "
            f"expected {', '.join(COLUMNS)} and optionally viewid, with commas between"
        )
    if twice := sorted({column for column in (*COLUMNS, "viewid") if columns.count(column) > 1}):
        raise UserError(f"{file}:1: the column {', '.join(twice)} stands twice; keep one")
    rows, wrong = [], []
    for values in reader:
        try:
            rows.append(_parse(f"{file}:{reader.line_num}", file.parent, values))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError(_summary(wrong, len(rows) + len(wrong)))
    if not rows:
        raise UserError(f"{file}: no line below the column names; add one per image")
    return rows


def _summary(wrong: Sequence[str], count: int) -> str:
    """Return an error message for the wrong ones among `count` lines: their number and the first few."""
    if len(wrong) == 1:
        return wrong[0]
    others = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return "\n  ".join([f"{len(wrong)} of {count} lines are wrong; correct or remove them:", *wrong[:NAMED], *others])


def _parse(where: str, folder: Path, values: dict[str, str | None]) -> dict[str, str]:
    """Return a checked line, with the path from the working directory; `viewid` may be empty."""
    texts = {column: (values.get(column) or "").strip() for column in (*COLUMNS, "viewid")}
    if empty := [column for column in COLUMNS if not texts[column]]:
        raise UserError(f"{where}: {', '.join(empty)} is empty; write unknown for an unknown camera")
    if None in values:  # csv's key for values without a column
        raise UserError(f"{where}: more values than columns; put a path with commas in quotes")
    if texts["split"] not in SPLITS:
        raise UserError(f"{where}: unknown split {texts['split']!r}; choose from {', '.join(SPLITS)}")
    path = folder / texts["path"]
    if not path.is_file():
        raise UserError(f"{where}: no image {path}; paths start at the CSV file's folder")
    return {**texts, "path": str(path)}
