"""Data set `manifest`: a CSV file with path, pid, camid, split and optionally viewid, tracklet and a box; names are free text."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ..box_columns import BoxColumns, to_whole
from ..records import Record, ReidData
from .box_crops import Box, BoxPlace, cut_crops, is_still

logger = logging.getLogger(__name__)

COLUMNS = ("path", "pid", "camid", "split")
SPLITS = ("train", "query", "gallery")
NAMED = 5  # wrong lines listed in an error; further ones are counted


class ManifestRow(NamedTuple):
    """A line: its file, its texts by column, and the box to be cut out of the file, if any."""

    path: str
    texts: dict[str, str]
    place: BoxPlace | None


def load_manifest(file: str | Path) -> ReidData:
    """Read a manifest. Pids, camids, viewids and tracklets are numbered in the order of the sorted names.

    Relative paths start at the CSV file's folder. With one camera, only the query's own file is junk (protocol "own-file"). A
    line with a box (x, y, width, height, or other usual columns) is the crop of a picture, or with a frame that of a video; these crops are
    cut once, into the folder FILE.crops. A line without a pid, but with a tracklet, is of a person of that tracklet.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or lines are wrong; names file and lines.
        CorruptImageError: a box lies outside its frame, or the video has no such frame.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"DATASETS.MANIFEST: no file {str(file)!r}; expected a CSV with {', '.join(COLUMNS)}")
    rows = _with_crops(_read(file), file)
    persons, cameras, views, tracklets = (
        _names(row.texts[column] for row in rows) for column in ("pid", "camid", "viewid", "tracklet")
    )
    records: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for path, texts, _ in rows:
        ids = persons[texts["pid"]], cameras[texts["camid"]], views.get(texts["viewid"], -1)
        records[texts["split"]].append(Record(path, *ids, tracklets.get(texts["tracklet"], -1)))
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


def _with_crops(rows: list[ManifestRow], file: Path) -> list[ManifestRow]:
    """Return the rows with the files of their crops in place of videos and pictures with boxes."""
    places = [row.place for row in rows if row.place]
    crops = iter(cut_crops(places, file.with_name(f"{file.name}.crops")) if places else ())
    return [row._replace(path=next(crops)) if row.place else row for row in rows]


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


def _read(file: Path) -> list[ManifestRow]:
    try:
        return _read_rows(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file}: not a CSV file in UTF-8 ({error}); save it as such (Excel calls it 'CSV UTF-8')"
        ) from error


def _read_rows(file: Path) -> list[ManifestRow]:
    reader = csv.DictReader(read_lines(file))
    columns = list(reader.fieldnames or [])
    if missing := [column for column in COLUMNS if column not in columns]:
        raise UserError(
            f"{file}:1: missing column {', '.join(missing)}; found {', '.join(columns) or 'nothing'}, "
            f"expected {', '.join(COLUMNS)} and optionally viewid, with commas between"
        )
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise UserError(f"{file}:1: the column {', '.join(twice)} stands twice; keep one")
    boxes, rows, wrong = BoxColumns.find(columns), [], []
    for values in reader:
        try:
            rows.append(_parse(f"{file}:{reader.line_num}", file.parent, values, boxes))
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


def _parse(where: str, folder: Path, values: dict[str, str | None], boxes: BoxColumns | None) -> ManifestRow:
    """Return a checked line, with the path from the working directory; `viewid` and `tracklet` may be empty."""
    texts = {column: (values.get(column) or "").strip() for column in (*COLUMNS, "viewid", "tracklet")}
    if texts["tracklet"] and texts["camid"]:
        texts["tracklet"] = f"{texts['camid']} {texts['tracklet']}"  # numbers of tracklets start anew in each camera
        texts["pid"] = texts["pid"] or f"track {texts['tracklet']}"
    if empty := [column for column in COLUMNS if not texts[column]]:
        raise UserError(f"{where}: {', '.join(empty)} is empty; write unknown for an unknown camera")
    if None in values:  # csv's key for values without a column
        raise UserError(f"{where}: more values than columns; put a path with commas in quotes")
    if texts["split"] not in SPLITS:
        raise UserError(f"{where}: unknown split {texts['split']!r}; choose from {', '.join(SPLITS)}")
    path = folder / texts["path"]
    if not path.is_file():
        raise UserError(f"{where}: no image {path}; paths start at the CSV file's folder")
    return ManifestRow(str(path), texts, _place(where, str(path), values, boxes))


def _place(where: str, path: str, values: dict[str, str | None], boxes: BoxColumns | None) -> BoxPlace | None:
    """Return the box of a line; None if the file is the crop: it has no box, or is a picture with the frame it was cut from."""
    frame = ((values.get(boxes.others["frame"]) or "") if boxes and "frame" in boxes.others else "").strip()
    if (
        boxes is None
        or not any((values.get(column) or "").strip() for column in boxes.box)
        or (frame and is_still(path))
    ):
        return None
    if not frame and not is_still(path):
        raise UserError(f"{where}: the frame is empty; frames of a video count from 0")
    x0, y0, x1, y1 = boxes.corners(values, where)
    number = to_whole(frame, f"{where}: frame") if frame else None
    if number is not None and number < 0:
        raise UserError(f"{where}: frame {number}; frames of a video count from 0")
    return BoxPlace(path, number, Box(x0, y0, x1 - x0, y1 - y0))
