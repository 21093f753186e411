"""Sources of an export: a folder, a manifest, a split of a data set, or boxes in videos; each yields rows in a fixed order."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...configs import OPTIONS
from ...datasets import DATASETS, CorruptImageError, ReadOptions, read_dataset, read_image
from ...datasets.readers.image_files import walk_images
from ...datasets.readers.manifest import is_windows_path, why_absent
from ...labels.column_names import find_columns
from ...labels.label_text import UNKNOWN, are_whole_numbers, without_decimals
from ...labels.name_options import JUNK, NameOptions
from ..storage.records_file import CORE, to_seconds
from .video import Box, VideoReader

logger = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")
FIELDS = ("path", "pid", "camera", "view", "time", "tracklet")  # of a SourceRow
BOX = {"frame": int, "x": float, "y": float, "width": float, "height": float}
NAMED = ("pid", "camera", "view", "tracklet")  # fields that are names


@dataclass(frozen=True)
class SourceRow:
    """One image of a source.

    Args:
        path: the image, or the video with the box.
        pid, camera, view, tracklet: names; None = unknown.
        time: seconds, since 1970 if it is a date; None = unknown.
        extra: further columns.
    """

    path: str
    pid: str | None = None
    camera: str | None = None
    view: str | None = None
    time: float | None = None
    tracklet: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a record of a gallery."""
        own = {key: getattr(self, key) for key in FIELDS}
        return {**own, **self.extra}


class Source(Protocol):
    """Rows in a fixed order, and the pixels of each.

    `extra` maps further columns to str, int or float; `num_readers` threads may read at once.
    """

    extra: dict[str, type]
    num_readers: int

    def rows(self) -> Iterator[SourceRow]:
        """Yield all rows, from the first with each call."""
        ...

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the row's (H, W, 3) uint8 RGB pixels; raise CorruptImageError or OSError if they cannot be read."""
        ...


def record_schema(extra: Mapping[str, type]) -> pa.Schema:
    """Return the columns of a gallery's records: those of every gallery, then a source's further ones."""
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema([*CORE, *((name, types[kind]) for name, kind in extra.items())])


def open_source(text: str, root: str | None = None, names: NameOptions | str | None = None) -> Source:
    """Return the source named by `text`.

    Args:
        text: a folder of images, a CSV file (a manifest, or boxes in videos), or DATASET:SPLIT such as market1501:gallery.
        root: folder of the data sets, for DATASET:SPLIT.
        names: what the names of a folder's files say, or the scheme alone.
    Raises:
        FileNotFoundError, ValueError: `text` is none of these, or an option does not apply to it.
    """
    path, said = Path(text).expanduser(), names if isinstance(names, NameOptions) else NameOptions(names)
    if path.is_dir():
        return FolderSource(path, said)
    if said.scheme:
        raise UserError(f"--names: for a folder of images only; {text!r} is none, leave --names out")
    if path.is_file():
        return _open_csv(path, said)
    name, _, split = text.partition(":")
    if name in DATASETS and split:
        return DatasetSource(name, split, root, said)
    raise FileNotFoundError(
        f"--input: {text!r} does not exist; expected a folder of images, a CSV file with the column path, a CSV file with "
        f"the columns video, {', '.join(BOX)}, or DATASET:SPLIT with one of {', '.join(sorted(DATASETS))}"
    )


def _open_csv(path: Path, names: NameOptions) -> Source:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            columns = next(csv.reader(lines), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--input: {path} is not a CSV file in UTF-8 ({error}); give a folder or a CSV file") from error
    if {"video", *BOX} <= set(columns):
        return TracksSource(path, columns)
    if "path" in find_columns(columns, ("path",), f"{path}:1").values():
        return ManifestSource(path, columns, names)
    raise UserError(
        f"{path}:1: expected a column path (one image per line), or the columns video, {', '.join(BOX)} (one box per line); "
        f"found {', '.join(columns) or 'nothing'}"
    )


class _ImageFiles:
    """A source of image files, by default without further columns; several threads read it."""

    extra: dict[str, type] = {}  # noqa: RUF012
    num_readers = min(16, os.cpu_count() or 1)

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of the file."""
        return read_image(row.path)


class FolderSource(_ImageFiles):
    """All images below a folder, sorted by name within each folder; hidden files and folders are left out.

    Args:
        names: what their names say.
    Raises:
        ValueError: no file is named so; while the rows are read.
    """

    def __init__(self, folder: Path, names: NameOptions | None = None) -> None:
        self.folder, self.names = Path(os.path.abspath(folder)), names or NameOptions()
        self._is_checked = False

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per image file."""
        known, unknown = 0, []
        for path in walk_images(self.folder):
            labels = {
                **(by_scheme := self.names.by_scheme(path)),
                **self.names.by_pattern(os.path.relpath(path, self.folder)),
            }
            if self.names.scheme and not by_scheme:
                unknown.append(path)
            else:
                known += 1
            yield SourceRow(path, labels.get("pid"), labels.get("camera"), time=_seconds(labels.get("time"), path))
        self._check(known, unknown)

    def _check(self, known: int, unknown: list[str]) -> None:
        """Raise ValueError if no file has the scheme's name; log, once, how many do not."""
        if unknown and not known:
            raise UserError(
                f"--names: none of the {len(unknown)} files is named PID_cCAMERA… as in {self.names.scheme}, the first: {unknown[0]}; "
                "leave --names out, or say how the camera stands in the names: --camera-pattern"
            )
        if unknown and not self._is_checked:
            logger.warning(
                "--names: %d of %d files are not named PID_cCAMERA…, their person and camera are unknown; the first: %s",
                *(len(unknown), known + len(unknown), unknown[0]),
            )
        self._is_checked = True


class DatasetSource(_ImageFiles):
    """The images of one split of a data set below `root`."""

    def __init__(self, name: str, split: str, root: str | None, names: NameOptions | None = None) -> None:
        if split not in SPLITS:
            raise UserError(f"--input: {name} has no split {split!r}; choose from {', '.join(SPLITS)}")
        if name == "manifest":
            raise UserError("--input: give the manifest's CSV file itself")
        pattern = names.camera_pattern if names else None
        if names and (names.time_pattern or (pattern and name != "folder")):
            raise UserError(
                f"--time-pattern, --camera-pattern: for images of a folder or a CSV file; {name} says in its own way what its file "
                "names mean, leave them out"
            )
        options = ReadOptions(camera_pattern=pattern or "")
        self._data = read_dataset(name, root or OPTIONS["DATASETS.ROOT_DIR"].default, options)
        self._records = getattr(self._data, split)

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per record."""
        data = self._data
        for record in self._records:
            pid = data.person_names.get(record.pid, str(record.pid))
            view = data.view_names[record.viewid] if record.viewid >= 0 else None
            tracklet = str(record.tracklet) if record.tracklet >= 0 else None
            path = os.path.abspath(record.path)
            yield SourceRow(path, pid, data.camera_names[record.camid], view, None, tracklet)


class _CsvSource:
    """Lines of a CSV file; relative paths start at the file's folder."""

    fields: tuple[str, ...] = FIELDS
    numbers: Mapping[str, type] = {}

    def __init__(self, file: Path, columns: Sequence[str], names: NameOptions | None = None) -> None:
        self.file, self._folder = file, Path(os.path.abspath(file)).parent
        self.known = self._known(columns)
        self._names = names or NameOptions()
        for what, pattern in self._names.patterns.items():
            if what in self.known.values():
                raise UserError(f"{pattern.option}: {file} has a column for it; leave the option or the column out")
        _check_columns(file, columns, self.known)
        others = [column for column in columns if column not in self.known]
        self.extra: dict[str, type] = {column: self.numbers.get(column, str) for column in others}

    def _known(self, columns: Sequence[str]) -> dict[str, str]:
        """Return column -> field."""
        return find_columns(columns, self.fields, f"{self.file}:1")

    @cached_property
    def _whole(self) -> set[str]:
        """Columns of names that are whole numbers with decimals, as pandas writes them next to an empty one."""
        columns = [column for column, field in self.known.items() if field in NAMED]
        with self.file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            values: dict[str, set[str]] = {column: set() for column in columns}
            for line in csv.DictReader(lines):
                for column in columns:
                    values[column].add((line.get(column) or "").strip())
        return {column for column in columns if are_whole_numbers(values[column])}

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per line."""
        with self.file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            try:
                for values in reader:
                    yield self._parse(f"{self.file}:{reader.line_num}", values)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.file}:{_line_not_utf8(self.file)}: not UTF-8 ({error.reason}); save the file as UTF-8"
                ) from error
            except csv.Error as error:
                raise UserError(f"{self.file}:{reader.line_num}: not a line of a CSV file ({error})") from error

    def _parse(self, where: str, values: dict[str | Any, Any]) -> SourceRow:
        if None in values:  # key of values without a column
            raise UserError(f"{where}: more values than columns; put a path with commas in quotes")
        texts = {column: (text or "").strip() or None for column, text in values.items()}
        own: dict[str, Any] = {field: self._label(column, texts[column]) for column, field in self.known.items()}
        if not own["path"]:
            raise UserError(f"{where}: the path is empty; every line names its file")
        own |= self._names.by_pattern(own["path"])
        own["path"] = self._located(own["path"], where)
        own["time"] = _seconds(own.get("time"), where)
        extra = {column: _to_type(texts[column], kind, f"{where}: {column}") for column, kind in self.extra.items()}
        return SourceRow(**own, extra=extra)

    def _label(self, column: str, text: str | None) -> str | None:
        """Return the text of a field; None for a missing value, and for the pid of junk."""
        field = self.known[column]
        if text is None or field not in NAMED:
            return text
        name = without_decimals(text) if column in self._whole else text
        return None if name in UNKNOWN or (field == "pid" and name == JUNK) else name

    def _located(self, path: str, where: str) -> str:
        """Return a path from the CSV file's folder; raise ValueError for one of Windows, read elsewhere."""
        found = os.path.join(self._folder, path)
        if is_windows_path(path) and not os.path.exists(found):
            raise UserError(f"{where}: no file {found}; {why_absent(path)}")
        return found


def _line_not_utf8(file: Path) -> int:
    """Return the number of the first line that is not UTF-8; the decoder reads ahead, so its position is later."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return number


def _check_columns(file: Path, columns: Sequence[str], known: Mapping[str, str]) -> None:
    meanings = [known.get(column, column) for column in columns]
    if twice := sorted({name for name in meanings if meanings.count(name) > 1}):
        raise UserError(f"{file}:1: the column {', '.join(twice)} stands twice; keep one, or rename the other")
    if taken := sorted({"id", "path", ""} & (set(columns) - set(known))):
        raise UserError(
            f"{file}:1: a gallery reserves the column {taken[0]!r}, and every column needs a name; give it another name"
        )


class ManifestSource(_ImageFiles, _CsvSource):
    """A CSV file with one image per line.

    Columns: path; optionally pid, camera (or camid), view (or viewid), time (seconds or ISO 8601) and tracklet; other
    columns are kept as text.
    """


class TracksSource(_CsvSource):
    """A CSV file with one box per line, sorted by video and frame.

    Columns: video; frame, counted from 0; x, y, the box's upper left corner, width and height in pixels; optionally those
    of a manifest. The videos are read once, in order.
    """

    fields = tuple(field for field in FIELDS if field != "path")
    numbers = BOX
    num_readers = 1  # frames are read in order

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        super().__init__(file, columns)
        self._reader = VideoReader()

    def _known(self, columns: Sequence[str]) -> dict[str, str]:
        return {"video": "path", **super()._known(columns)}

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per box."""
        before: tuple[str, int] = ("", 0)
        for row in super().rows():
            if row.extra["frame"] is None or row.extra["frame"] < 0:
                raise UserError(f"{self.file}: a frame of {row.path} has no number; frames count from 0")
            here = (row.path, row.extra["frame"])
            if here[0] == before[0] and here[1] < before[1]:
                raise UserError(
                    f"{self.file}: frame {here[1]} of {here[0]} comes after frame {before[1]}; sort the lines by video, "
                    "then by frame, so that each video is read once"
                )
            before = here
            yield row

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of the box."""
        values = [row.extra[key] for key in ("x", "y", "width", "height")]
        if None in values:
            raise CorruptImageError(f"{row.path}, frame {row.extra['frame']}: x, y, width or height is empty")
        return self._reader.crop(row.path, row.extra["frame"], Box(*values))


def _to_type(text: str | None, kind: type, what: str) -> Any:
    if text is None or kind is str:
        return text
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{what} is a {'whole ' if kind is int else ''}number, got {text!r}") from error
    if not math.isfinite(value):
        raise UserError(f"{what} is a finite number, got {text!r}")
    if kind is int and not value.is_integer():
        raise UserError(f"{what} is a whole number, got {text!r}")
    return kind(value)  # pandas writes 12 as 12.0 if other lines are empty


def _seconds(text: str | float | None, where: str) -> float | None:
    """Return a time in seconds, converted as in a gallery; raise ValueError, naming `where`, for anything else."""
    try:
        seconds = to_seconds(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if seconds is not None and not math.isfinite(seconds):
        raise UserError(f"{where}: the time is a finite number of seconds, got {text!r}")
    return seconds
