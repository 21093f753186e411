"""Sources of an export of images: a folder, a manifest, a split of a data set, or boxes in videos and pictures."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...configs import OPTIONS
from ...datasets import DATASETS, ReadOptions, read_dataset
from ...datasets.box_columns import BoxColumns
from ...datasets.loading.clips import frame_records
from ...datasets.readers.box_crops import is_still
from ...datasets.readers.image_files import list_images, walk_images
from ...labels.column_names import find_columns
from ...labels.name_options import NameOptions
from ...tracking.box_files import GivenBoxes, boxes_of_pictures, read_boxes, select_classes
from ...tracking.box_files.mot_text import is_mot
from ...tracking.box_files.text_files import head_of
from ...tracking.frames import is_live
from ...tracking.frames.live_stream import without_password
from ...tracking.recording_tracks import TrackOptions
from ...tracking.recordings import FRAMES, VIDEO_SUFFIXES
from .csv_sources import BoxesSource, ManifestSource, seconds_of
from .source_rows import BOX, ImageFiles, Source, SourceRow

logger = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")
FIND_PEOPLE = "name what finds the people in it: --detector NAME|FILE|motion, or --boxes FILE"


def open_source(
    text: str,
    root: str | None = None,
    names: NameOptions | str | None = None,
    frames_from: int = 0,
    skips: bool = False,
) -> Source:
    """Return the source named by `text`.

    Args:
        text: a folder of images, a CSV file (a manifest, or boxes in videos), or DATASET:SPLIT such as market1501:gallery.
        root: folder of the data sets, for DATASET:SPLIT.
        names: what the names of a folder's files say, or the scheme alone.
        frames_from: number of a video's first frame in a CSV file of boxes.
        skips: what cannot be read will be left out; see `BoxesSource`.
    Raises:
        FileNotFoundError, ValueError: `text` is none of these, or an option does not apply to it.
    """
    path, said = Path(text).expanduser(), names if isinstance(names, NameOptions) else NameOptions(names)
    if said.scheme and not path.is_dir():
        raise UserError(f"--names: for a folder of images only; {text!r} is none, leave --names out")
    if is_live(text) or path.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"--input: {without_password(text)} is a video; {FIND_PEOPLE}")
    if path.is_dir():
        return FolderSource(path, said)
    if path.is_file():
        return _open_csv(path, said, frames_from, skips)
    name, _, split = text.partition(":")
    if name in DATASETS and split:
        return DatasetSource(name, split, root, said)
    raise FileNotFoundError(
        f"--input: {text!r} does not exist; expected a folder of images, a video, a CSV file with the column path, a CSV file "
        f"with the columns video, frame, {', '.join(BOX)}, or DATASET:SPLIT with one of {', '.join(sorted(DATASETS))}"
    )


def _open_csv(path: Path, names: NameOptions, frames_from: int, skips: bool) -> Source:
    try:
        columns = next(csv.reader(read_lines(path)), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--input: {path} is not a CSV file in UTF-8 ({error}); give a folder or a CSV file; if it is a video, {FIND_PEOPLE}"
        ) from error
    if is_mot(path, ",".join(columns)):
        raise UserError(
            f"--input: {path} is a file of boxes of MOTChallenge; give the video or the folder of its frames, and this file as "
            f"boxes: --input VIDEO --boxes {path}"
        )
    box = BoxColumns.find(columns)
    found = {field: column for column, field in find_columns(columns, ("path",), f"{path}:1").items()}
    if box and "frame" in box.others and ("video" in columns or _names_videos(path, found.get("path", ""))):
        return BoxesSource(path, columns, box, names, frames_from, skips)
    if found:
        return ManifestSource(path, columns, box, names)
    raise UserError(
        f"{path}:1: expected a column path (one image per line), or the columns video, frame, {', '.join(BOX)} (one box per "
        f"line); found {', '.join(columns) or 'nothing'}"
    )


def _names_videos(path: Path, column: str) -> bool:
    """Return whether a column of the first line of a CSV file names something else than a picture."""
    first = next(csv.DictReader(read_lines(path, errors="replace")), {})
    return bool(first.get(column)) and not is_still(str(first[column]))


def sequence_of(text: str) -> tuple[str, str] | None:
    """Return the folder of frames and the box file if `text` is a box file of MOTChallenge next to its frames; else None.

    Such a file lies in SEQUENCE/gt/ or SEQUENCE/det/, the frames in SEQUENCE/img1/.
    """
    path = Path(text).expanduser()
    if path.suffix.lower() != ".txt" or not path.is_file() or not is_mot(path, head_of(path)):
        return None
    frames = path.absolute().parent.parent / FRAMES
    return (str(frames), str(path)) if frames.is_dir() else None


def boxes_in_pictures(text: str, tracks: TrackOptions) -> PictureBoxes | None:
    """Return the source if the boxes lie in pictures that are no sequence: a folder of images, boxes that name them, no tracks."""
    path = Path(text).expanduser()
    if tracks.boxes is None or tracks.track or not path.is_dir() or not list_images(path):
        return None
    given = read_boxes(tracks.boxes, tracks.box_format, tracks.class_names)
    if given.pictures is None:
        return None
    return PictureBoxes(select_classes(given, tracks.classes, tracks.confidence), path)


class PictureBoxes(ImageFiles):
    """The boxes of a file that names pictures, such as COCO's or YOLO's, one row each.

    Args:
        folder: where the pictures lie; None = as the file says.
    """

    def __init__(self, given: GivenBoxes, folder: Path | None) -> None:
        self._given, self._folder = given, folder
        self.extra = {**dict.fromkeys(BOX, float), "confidence": float, "label": str}

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per box, picture by picture."""
        for path, found in boxes_of_pictures(self._given, self._folder):
            for box, score, label, track in zip(
                found.boxes.tolist(), found.scores, found.labels, found.tracks.tolist()
            ):
                x0, y0, x1, y1 = box
                extra = dict(zip(self.extra, (x0, y0, x1 - x0, y1 - y0, float(score), label)))
                yield SourceRow(os.path.abspath(path), tracklet=str(track) if track >= 0 else None, extra=extra)


class FolderSource(ImageFiles):
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
            by_scheme = self.names.by_scheme(path)
            labels: dict[str, Any] = {**by_scheme, **self.names.by_pattern(os.path.relpath(path, self.folder))}
            if self.names.scheme and not by_scheme:
                unknown.append(path)
            else:
                known += 1
            yield SourceRow(path, labels.get("pid"), labels.get("camera"), time=seconds_of(labels.get("time"), path))
        self._check(known, unknown)

    def _check(self, known: int, unknown: list[str]) -> None:
        """Raise ValueError if no file has the scheme's name; log, once, how many do not."""
        if unknown and not known:
            raise UserError(
                f"--names: none of the {len(unknown)} files is named PID_cCAMERA… as in {self.names.scheme}, the first: "
                f"{unknown[0]}; leave --names out, or say how the camera stands in the names: --camera-pattern"
            )
        if unknown and not self._is_checked:
            logger.warning(
                "--names: %d of %d files are not named PID_cCAMERA…, their person and camera are unknown; the first: %s",
                *(len(unknown), known + len(unknown), unknown[0]),
            )
        self._is_checked = True


class DatasetSource(ImageFiles):
    """The images of one split of a data set below `root`."""

    def __init__(self, name: str, split: str, root: str | None, names: NameOptions | None = None) -> None:
        if split not in SPLITS:
            raise UserError(f"--input: {name} has no split {split!r}; choose from {', '.join(SPLITS)}")
        if name == "manifest":
            raise UserError("--input: give the manifest's CSV file itself")
        pattern = names.camera_pattern if names else None
        if names and (names.time_pattern or (pattern and name != "folder")):
            raise UserError(
                f"--time-pattern, --camera-pattern: for images of a folder or a CSV file; {name} says in another way what its file "
                "names mean, leave them out"
            )
        options = ReadOptions(camera_pattern=pattern or "")
        self._data = read_dataset(name, root or OPTIONS["DATASETS.ROOT_DIR"].default, options)
        self._records = getattr(self._data, split)

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per image, or per frame of a tracklet."""
        data = self._data
        for record in frame_records(self._records):
            pid = data.person_names.get(record.pid, str(record.pid))
            view = data.view_names[record.viewid] if record.viewid >= 0 else None
            tracklet = str(record.tracklet) if record.tracklet >= 0 else None
            path = os.path.abspath(record.path)
            yield SourceRow(path, pid, data.camera_names[record.camid], view, None, tracklet)
