"""Data set `manifest`: a CSV file with path, pid, camid, split and optionally viewid, tracklet, clothes and a box; names are free text."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...labels.column_names import find_columns, why_absent
from ...labels.label_text import UNKNOWN, are_whole_numbers, without_decimals
from ...labels.name_options import JUNK
from ...labels.name_pattern import NamePattern
from ...labels.setting import CHANGED_CLOTHES, GENERAL, SAME_CLOTHES
from ..box_columns import BoxColumns, to_whole
from ..records import UNLABELLED, Moment, Record, ReidData
from .box_crops import Box, BoxPlace, cut_crops, is_still
from .moments import MomentColumns

logger = logging.getLogger(__name__)

FIELDS = {  # field -> its name in messages
    "path": "path",
    "pid": "pid",
    "camera": "camid",
    "split": "split",
    "view": "viewid",
    "tracklet": "tracklet",
    "clothes": "clothes",
}
NEEDED = ("path", "pid", "camera", "split")
LABELS = ("pid", "camera", "view", "tracklet", "clothes")
SPLITS = ("train", "query", "gallery")
NAMED = 5  # wrong lines listed in an error; further ones are counted


class ManifestRow(NamedTuple):
    """A line: its file, its texts by field, the box to be cut out of the file, if any, and when it was taken, if it says so."""

    path: str
    texts: dict[str, str]
    place: BoxPlace | None
    moment: Moment | None = None


def load_manifest(file: str | Path, camera_pattern: str = "", unlabelled: bool = False) -> ReidData:
    """Read a manifest. Pids, camids, viewids and tracklets are numbered in the order of the sorted names.

    Relative paths start at the CSV file's folder. With one camera, only the query's own file is junk (protocol "own-file"). A
    line with a box (x, y, width, height, or other usual columns) is the crop of a picture, or with a frame that of a video; these crops are
    cut once, into the folder FILE.crops. A line without a pid, but with a tracklet, is of a person of that tracklet. Lines of pid
    -1 are junk and left out. With clothes, figures are given in general, for the same and for changed clothes.

    Args:
        camera_pattern: regular expression that finds the camera's name in the path, for a file without the column camid.
        unlabelled: the pid of training images may be empty, or its column missing: their person is unknown. Moments are read.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or lines are wrong; names file and lines.
        CorruptImageError: a box lies outside its frame, or the video has no such frame.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        expected = ", ".join(FIELDS[field] for field in NEEDED)
        raise FileNotFoundError(f"DATASETS.MANIFEST: no file {str(file)!r}; expected a CSV with {expected}")
    rows = _with_crops(_without_junk(_read(file, camera_pattern, unlabelled), file), file)
    persons, cameras, views, tracklets, clothes = (_names(row.texts[field] for row in rows) for field in LABELS)
    records: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for path, texts, _, moment in rows:
        ids = persons.get(texts["pid"], UNLABELLED), cameras[texts["camera"]], views.get(texts["view"], -1)
        own = tracklets.get(texts["tracklet"], -1), clothes.get(texts["clothes"], -1)
        records[texts["split"]].append(Record(path, *ids, *own, moment=moment))
    if bool(records["query"]) != bool(records["gallery"]):
        empty = "gallery" if records["query"] else "query"
        raise UserError(f"{file}: no line has the split {empty}; query and gallery are needed together")
    person_names = {pid: person for person, pid in persons.items()}
    if len(cameras) == 1:
        logger.warning("%s: one camera only; images from a query's own camera count as matches", file)
    _warn_of_overlap(file, records, person_names)
    has_clothes = len(cameras) > 1 and clothes and _all_dressed(file, [*records["query"], *records["gallery"]])
    return ReidData(
        "manifest",
        train=records["train"],
        query=records["query"],
        gallery=records["gallery"],
        camera_names=tuple(cameras),
        view_names=tuple(views),
        person_names=person_names,
        protocol="same-camera" if len(cameras) > 1 else "own-file",
        settings=(GENERAL, SAME_CLOTHES, CHANGED_CLOTHES) if has_clothes else (),
    )


def _all_dressed(file: Path, tested: Sequence[Record]) -> bool:
    """Return whether all test images have clothes; warn if only some have, since then they are not compared."""
    without = [record for record in tested if record.clothes < 0]
    if without and len(without) < len(tested):
        logger.warning(
            "%s: clothes are not compared: %d of %d test images have none, first %s",
            *(file, len(without), len(tested), without[0].path),
        )
    return bool(tested) and not without


def _without_junk(rows: list[ManifestRow], file: Path) -> list[ManifestRow]:
    """Return the lines of people; images of pid -1 would count as one more person."""
    kept = [row for row in rows if row.texts["pid"] != JUNK]
    if len(kept) < len(rows):
        logger.info("%s: %d images of pid -1 are junk and left out", file, len(rows) - len(kept))
    if not kept:
        raise UserError(
            f"{file}: all {len(rows)} images have the pid -1, which means junk; give each person another pid"
        )
    return kept


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


def _read(file: Path, camera_pattern: str, unlabelled: bool) -> list[ManifestRow]:
    try:
        reader = csv.DictReader(read_lines(file))
        parser = _LineParser(file, list(reader.fieldnames or []), camera_pattern, unlabelled)
        return parser.parse([(reader.line_num, values) for values in reader])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file}: not a CSV file in UTF-8 ({error}); save it as such (Excel calls it 'CSV UTF-8')"
        ) from error


class _LineParser:
    """Turns the lines of a manifest with these columns into rows."""

    def __init__(self, file: Path, columns: Sequence[str], camera_pattern: str, unlabelled: bool) -> None:
        self.file, self.boxes, self.unlabelled = file, BoxColumns.find(columns), unlabelled
        self.columns = {field: column for column, field in find_columns(columns, tuple(FIELDS), f"{file}:1").items()}
        self.moments = MomentColumns(columns, f"{file}:1") if unlabelled else None
        self.pattern = None
        if camera_pattern and "camera" not in self.columns:
            self.pattern = NamePattern("DATASETS.CAMERA_PATTERN", camera_pattern)
        self._whole: set[str] = set()
        left_out = {field for field, may in (("camera", self.pattern is not None), ("pid", unlabelled)) if may}
        if missing := [FIELDS[field] for field in NEEDED if field not in {*self.columns, *left_out}]:
            hint = "; DATASETS.CAMERA_PATTERN reads cameras from the paths" if "camid" in missing else ""
            hint += "; UNSUPERVISED.CLUSTERING trains without pids" if missing == ["pid"] else ""
            raise UserError(
                f"{file}:1: missing column {', '.join(missing)}; found {', '.join(columns) or 'nothing'}, "
                f"expected {', '.join(FIELDS[field] for field in NEEDED)} and optionally viewid, tracklet, clothes, with commas between{hint}"
            )

    def parse(self, lines: Sequence[tuple[int, dict[str, str | None]]]) -> list[ManifestRow]:
        """Return all lines; raise ValueError, naming the first wrong ones, if some are wrong or there is none."""
        texts = {field: [self._text(values, field) for _, values in lines] for field in LABELS}
        self._whole = {field for field in LABELS if are_whole_numbers(texts[field])}
        rows, wrong = [], []
        for number, values in lines:
            try:
                rows.append(self._row(f"{self.file}:{number}", values))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise UserError(_summary(wrong, len(rows) + len(wrong)))
        if not rows:
            raise UserError(f"{self.file}: no line below the column names; add one per image")
        return rows

    def _text(self, values: dict[str, str | None], field: str) -> str:
        """Return a field of a line; "" if it is missing, 1 for pandas' 1.0 in a column of whole numbers."""
        text = (values.get(self.columns.get(field, "")) or "").strip()
        if field in LABELS and text in UNKNOWN:
            return ""
        return without_decimals(text) if field in self._whole else text

    def _row(self, where: str, values: dict[str, str | None]) -> ManifestRow:
        """Return a checked line, with the path from the working directory; view and tracklet may be empty."""
        texts = {field: self._text(values, field) for field in FIELDS}
        if self.pattern and texts["path"]:
            texts["camera"] = self.pattern.of(texts["path"]) or ""
        if texts["tracklet"] and texts["camera"]:
            texts["tracklet"] = f"{texts['camera']} {texts['tracklet']}"  # their numbers start anew in each camera
            texts["pid"] = texts["pid"] or ("" if self.unlabelled else f"track {texts['tracklet']}")
        may_lack = ("pid",) if self.unlabelled and texts["split"] == "train" else ()
        if empty := [FIELDS[field] for field in NEEDED if not texts[field] and field not in may_lack]:
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
        place = _place(where, str(path), values, self.boxes)
        moment = self.moments.read(values, place, where) if self.moments and texts["split"] == "train" else None
        return ManifestRow(str(path), texts, place, moment)


def _summary(wrong: Sequence[str], count: int) -> str:
    """Return an error message for the wrong ones among `count` lines: their number and the first few."""
    if len(wrong) == 1:
        return wrong[0]
    others = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return "\n  ".join([f"{len(wrong)} of {count} lines are wrong; correct or remove them:", *wrong[:NAMED], *others])


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
