"""Boxes from elsewhere: files of other detectors, trackers and labelling tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...common.errors import UserError, choose
from ..class_names import Names, class_list
from .coco_json import is_coco, read_coco
from .csv_table import is_csv, read_csv
from .cvat_xml import is_cvat, read_cvat
from .given_boxes import GivenBoxes, select_classes
from .mot_text import is_mot, read_mot
from .placement import BoxesOfVideo, boxes_of_pictures
from .result_json import is_result_json, read_result_json
from .text_files import head_of
from .yolo_labels import is_yolo, read_yolo


class BoxFormat(NamedTuple):
    """How a form of boxes is recognised, from the path and the first lines, and read."""

    matches: Callable[[Path, str], bool]
    read: Callable[[Path, Names | None], GivenBoxes]
    about: str


BOX_FORMATS = {  # the first one that matches is taken
    "cvat": BoxFormat(is_cvat, read_cvat, "XML of CVAT 1.1, for video or for images"),
    "coco": BoxFormat(is_coco, read_coco, "JSON of COCO: images, annotations, categories"),
    "results": BoxFormat(is_result_json, read_result_json, "JSON of Ultralytics or supervision"),
    "csv": BoxFormat(is_csv, read_csv, "CSV with a line of column names, also of Ultralytics or supervision"),
    "mot": BoxFormat(is_mot, read_mot, "text of MOTChallenge: gt.txt, det.txt, results"),
    "yolo": BoxFormat(is_yolo, read_yolo, "folder of YOLO label files, also Ultralytics' save_txt"),
}


def read_boxes(path: str | Path, form: str | None = None, class_names: Names | str | None = None) -> GivenBoxes:
    """Return the boxes of a file or folder.

    Args:
        form: one of BOX_FORMATS; None = found from the file.
        class_names: names of class numbers, for forms that have numbers only; or "coco80", "coco91".
    Raises:
        FileNotFoundError: there is no such file.
        UserError: the form is unknown or not recognised, or a line is wrong; names it and the reason.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file with boxes")
    chosen = BOX_FORMATS[recognise_boxes(path)] if form is None else choose("boxes", form, BOX_FORMATS)
    return chosen.read(path, class_list(class_names))


def recognise_boxes(path: Path) -> str:
    """Return the form of a file or folder.

    Raises:
        UserError: it is none of BOX_FORMATS.
    """
    head = "" if path.is_dir() else head_of(path)
    for name, form in BOX_FORMATS.items():
        if form.matches(path, head):
            return name
    listed = "; ".join(f"{name}: {form.about}" for name, form in BOX_FORMATS.items())
    start = f", starts with {head.splitlines()[0][:60]!r}" if head.strip() else ""
    raise UserError(f"{path}: no known form of boxes{start}; expected one of {listed}")


__all__ = [
    "BOX_FORMATS",
    "BoxFormat",
    "BoxesOfVideo",
    "GivenBoxes",
    "boxes_of_pictures",
    "read_boxes",
    "recognise_boxes",
    "select_classes",
]
