"""CSV files as sources of an export: one image, or one box in an image or a video, per line."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...common.text import to_seconds
from ...datasets import CorruptImageError
from ...datasets.box_columns import BoxColumns, checked_corners
from ...datasets.readers.box_crops import VideoReader, is_still
from ...labels.column_names import find_columns, is_windows_path, why_absent
from ...labels.label_text import UNKNOWN, are_whole_numbers, without_decimals
from ...labels.name_options import JUNK, NameOptions
from ...tracking.frames import CorruptVideoError, VideoFile
from .source_rows import BOX, FIELDS, ImageFiles, SourceRow, box_of

NAMES = ("pid", "camera", "view", "tracklet")  # fields that are names


class _CsvSource:
    """Lines of a CSV file; relative paths start at the file's folder.

    Args:
        box: the columns of a box, frame included; None = the lines have no boxes.
        names: what the paths say, for what no column does.
    """

    def __init__(
        self, file: Path, columns: Sequence[str], box: BoxColumns | None = None, names: NameOptions | None = None
    ) -> None:
        self.file, self._folder, self._names = file, Path(os.path.abspath(file)).parent, names or NameOptions()
        self.known, self._box, self._frame = self._meanings(columns), box, box.others.get("frame") if box else None
        for what, pattern in self._names.patterns.items():
            if what in self.known.values():
                raise UserError(f"{pattern.option}: {file} has a column for it; leave the option or the column out")
        track = box.others.get("track") if box and "tracklet" not in self.known.values() else None
        if track and track not in self.known:
            self.known[track] = "tracklet"
        _check_columns(file, columns, self.known)
        taken = {*self.known, *((*box.box, self._frame) if box else ())}
        self.extra: dict[str, type] = {column: str for column in columns if column not in taken}
        if box:
            self.extra = {**({"frame": int} if self._frame else {}), **dict.fromkeys(BOX, float), **self.extra}

    def _meanings(self, columns: Sequence[str]) -> dict[str, str]:
        """Return column -> its field, one of FIELDS; other columns are kept as text."""
        return find_columns(columns, FIELDS, f"{self.file}:1")

    @cached_property
    def _whole(self) -> set[str]:
        """Columns of names that are whole numbers with decimals, as pandas writes them next to an empty one."""
        values: dict[str, set[str]] = {column: set() for column, field in self.known.items() if field in NAMES}
        for line in csv.DictReader(read_lines(self.file, errors="replace")):
            for column, found in values.items():
                found.add((line.get(column) or "").strip())
        return {column for column, found in values.items() if are_whole_numbers(found)}

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per line."""
        reader = csv.DictReader(read_lines(self.file))
        try:
            for values in reader:
                yield self._parse(f"{self.file}:{reader.line_num}", values)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.file}:{reader.line_num + 1}: not UTF-8 ({error.reason}); save the file as UTF-8"
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
        own["time"] = seconds_of(own.get("time"), where)
        extra: dict[str, Any] = self._boxed(texts, where)
        extra |= {column: texts[column] for column in self.extra if column not in extra}
        return SourceRow(**own, extra=extra)

    def _label(self, column: str, text: str | None) -> str | None:
        """Return the text of a field; None for a missing value, and for the pid of junk."""
        field = self.known[column]
        if text is None or field not in NAMES:
            return text
        name = without_decimals(text) if column in self._whole else text
        return None if name in UNKNOWN or (field == "pid" and name == JUNK) else name

    def _located(self, path: str, where: str) -> str:
        """Return a path from the CSV file's folder; raise ValueError for one of Windows, read elsewhere."""
        found = os.path.join(self._folder, path)
        if is_windows_path(path) and not os.path.exists(found):
            raise UserError(f"{where}: no file {found}; {why_absent(path)}")
        return found

    def _boxed(self, texts: Mapping[str, str | None], where: str) -> dict[str, Any]:
        """Return frame, x, y, width and height of a line; all None where one of the four is empty."""
        if self._box is None:
            return {}
        frame = {"frame": _to_type(texts[self._frame], int, f"{where}: {self._frame}")} if self._frame else {}
        numbers = [_to_type(texts[column], float, f"{where}: {column}") for column in self._box.box]
        if None in numbers:
            return {**frame, **dict.fromkeys(BOX)}
        a, b, c, d = numbers
        x0, y0, x1, y1 = checked_corners(a, b, c, d, self._box.kind, where)
        if self._box.kind == "size":  # unchanged to the last digit
            return {**frame, **dict(zip(BOX, numbers))}
        return {**frame, **dict(zip(BOX, (x0, y0, x1 - x0, y1 - y0)))}


def _check_columns(file: Path, columns: Sequence[str], known: Mapping[str, str]) -> None:
    meanings = [known.get(column, column) for column in columns]
    if twice := sorted({name for name in meanings if meanings.count(name) > 1}):
        raise UserError(f"{file}:1: the column {', '.join(twice)} stands twice; keep one, or rename the other")
    if taken := sorted({"id", "path", ""} & (set(columns) - set(known))):
        raise UserError(
            f"{file}:1: a gallery reserves the column {taken[0]!r}, and every column needs a name; give it another name"
        )


class ManifestSource(ImageFiles, _CsvSource):
    """A CSV file with one image, or one box in an image, per line.

    Columns: path; optionally pid, camera (or camid), view (or viewid), time (seconds or ISO 8601), tracklet, and a box such as
    x, y, width, height in pixels; other columns are kept as text.
    """


class BoxesSource(_CsvSource):
    """A CSV file with one box in a video per line, sorted by video and frame; the videos are read once, in order.

    Columns: video (or path); frame; a box such as x, y, width, height in pixels; optionally those of a manifest.

    Args:
        frames_from: number of a video's first frame.
        skips: boxes that are not there are left out by the reader; False = they are refused beforehand.
    """

    num_readers = 1  # frames are read in order

    def __init__(
        self,
        file: Path,
        columns: Sequence[str],
        box: BoxColumns,
        names: NameOptions | None = None,
        frames_from: int = 0,
        skips: bool = False,
    ) -> None:
        super().__init__(file, columns, box, names)
        self.frames_from, self._skips = frames_from, skips
        self._reader, self._checked = VideoReader(), set[str]()

    def _meanings(self, columns: Sequence[str]) -> dict[str, str]:
        if "video" not in columns:
            return super()._meanings(columns)
        others = tuple(field for field in FIELDS if field != "path")
        return {"video": "path", **find_columns(columns, others, f"{self.file}:1")}

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per box, frames counted from 0."""
        before, lowest = ("", -1), 0
        for row in super().rows():
            number = row.extra["frame"]
            if number is None or number < self.frames_from:
                raise UserError(
                    f"{self.file}: frame {'of ' + row.path + ' has no number' if number is None else number}; frames count "
                    f"from {self.frames_from}"
                    + ("; for files that count from 0: --frames-from 0" if self.frames_from else "")
                )
            number -= self.frames_from
            row = replace(row, extra={**row.extra, "frame": number})
            if row.path != before[0]:
                self._check_count(*before, lowest)
                lowest = number
            elif number < before[1]:
                raise UserError(
                    f"{self.file}: frame {number} of {row.path} comes after frame {before[1]}; sort the lines by video, "
                    "then by frame, so that each video is read once"
                )
            before = (row.path, number)
            yield row
        self._check_count(*before, lowest)

    def _check_count(self, path: str, highest: int, lowest: int) -> None:
        """Raise UserError if a video ends before its last box; names both counts."""
        if self._skips or path in self._checked or not os.path.isfile(path) or is_still(path):
            return
        self._checked.add(path)
        try:
            video = VideoFile(Path(path))
            if (
                video.num_frames is not None and highest < video.num_frames
            ):  # an estimate, but seldom below the true number
                return
            count = video.count_frames()
        except CorruptVideoError as error:
            raise CorruptVideoError(f"{self.file} names {error}") from error
        if highest >= count:
            hint = "check that the boxes belong to this video"
            if lowest > 0 and highest == count:
                hint = f"if its frames count from {self.frames_from + 1}: --frames-from {self.frames_from + 1}"
            raise UserError(
                f"{self.file}: has boxes up to frame {highest + self.frames_from} of {path}, counted from {self.frames_from}; the "
                f"video has {count} frames: {hint}, or leave these boxes out: --corrupt skip"
            )

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of the box."""
        box = box_of(row)
        if box is None:
            raise CorruptImageError(f"{row.path}, frame {row.extra['frame']}: x, y, width or height is empty")
        return self._reader.crop(row.path, row.extra["frame"], box)


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


def seconds_of(text: str | float | None, where: str) -> float | None:
    """Return a time in seconds, converted as in a gallery; raise ValueError, naming `where`, for anything else."""
    try:
        seconds = to_seconds(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if seconds is not None and not math.isfinite(seconds):
        raise UserError(f"{where}: the time is a finite number of seconds, got {text!r}")
    return seconds
