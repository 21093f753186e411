"""YOLO's label files: a folder with one text file per picture or frame; also Ultralytics' `save_txt`.

A line is: class number, centre x, centre y, width, height as fractions of the picture; then, in results, confidence, track
id, or both. A line with an odd number of more than seven values is a polygon, whose surrounding rectangle is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import CONFIG_BYTES, read_text
from ...common.inputs.yaml_text import parse_yaml
from ...datasets.box_columns import checked_corners, to_number, to_whole
from ..class_names import Names
from .box_rows import BoxRows
from .given_boxes import GivenBoxes
from .text_files import read_lines

NOT_LABELS = ("classes.txt", "labels.txt", "train.txt", "val.txt", "test.txt", "readme.txt")
NAME_FILES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")
FARTHEST = 1.5  # fractions beyond this are pixels


def read_yolo(path: Path, class_names: Names | None = None) -> GivenBoxes:
    """Return the boxes of a folder of label files, or of a single one.

    Args:
        class_names: of class numbers 0, 1, …; None = a data.yaml, classes.txt or obj.names in the folder or up to two above,
            else numbers stay numbers.
    Raises:
        UserError: a line is wrong; names it and the reason.
    """
    files = _label_files(path)
    folder = path if path.is_dir() else path.parent
    names = class_names if class_names is not None else _stated_names(folder)
    lines = [(f"{file}:{number}", file.stem, line.split()) for file in files for number, line in read_lines(file)]
    sixth = _meaning_of_sixth(lines)
    rows = BoxRows()
    for where, stem, values in lines:
        number = to_whole(values[0], f"{where}: class")
        if names is not None and not (0 <= number < len(names)):
            raise UserError(f"{where}: class {number}, but {len(names)} class names are known, from 0 on")
        score, track = 1.0, -1
        if len(values) == 7 or (len(values) == 6 and sixth == "score"):
            score = to_number(values[5], f"{where}: confidence")
        if len(values) == 7 or (len(values) == 6 and sixth == "track"):
            track = to_whole(values[-1], f"{where}: track")
        label = str(number) if names is None else str(names[number])
        rows.add(_box(values, where), picture=stem, score=score, label=label, track=track)
    return rows.finish(path, all_pictures=tuple(file.stem for file in files), fractions=True)


def is_yolo(path: Path, head: str) -> bool:
    """Return whether a folder holds label files, or a text file's first line is one."""
    if path.is_dir():
        return any(is_yolo(file, _first_line(file)) or not file.stat().st_size for file in _text_files(path))
    values = head.split("\n", 1)[0].split()
    if path.suffix.lower() != ".txt" or len(values) < 5 or not values[0].isdigit():
        return False
    try:
        return all(0 <= float(value) <= FARTHEST for value in values[1:5])
    except ValueError:
        return False


def _first_line(file: Path) -> str:
    return next((line for _, line in read_lines(file)), "")


def _text_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.txt") if file.name.lower() not in NOT_LABELS)


def _label_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if files := _text_files(path):
        return files
    raise UserError(f"{path}: holds no .txt label files; give the folder that has them (labels/)")


def _meaning_of_sixth(lines: Sequence[tuple[str, str, list[str]]]) -> str:
    """Return what the sixth value of lines with six states: "score", or "track" if all are whole and one is above 1."""
    sixth = [(where, to_number(values[5], where)) for where, _, values in lines if len(values) == 6]
    numbers = [number for _, number in sixth]
    if all(0 <= number <= 1 for number in numbers):
        if numbers and all(number == int(number) for number in numbers):
            raise UserError(
                f"{sixth[0][0]}: the sixth values are all 0 or 1, confidences or track ids; write both (save_conf=True with tracking)"
            )
        return "score"
    for where, number in sixth:
        if number != int(number):
            raise UserError(
                f"{where}: the sixth value is {number:g}; expected confidences of 0-1, or whole track ids, in all lines"
            )
    return "track"


def _box(values: list[str], where: str) -> tuple[float, float, float, float]:
    numbers = [to_number(value, f"{where}: box") for value in values[1:]]
    if len(values) > 7 and len(values) % 2:  # a polygon
        xs, ys = numbers[::2], numbers[1::2]
        box = checked_corners(min(xs), min(ys), max(xs), max(ys), "corners", where)
    elif 5 <= len(values) <= 7:
        box = checked_corners(numbers[0], numbers[1], numbers[2], numbers[3], "centre", where)
    else:
        raise UserError(f"{where}: {len(values)} values; expected class, x, y, width, height [confidence] [track]")
    if max(map(abs, box)) > FARTHEST:
        raise UserError(f"{where}: values up to {max(map(abs, box)):g}; expected fractions of the picture, 0-1")
    return box


def _stated_names(folder: Path) -> Names | None:
    for place in (folder, *list(folder.absolute().parents)[:2]):
        for name in NAME_FILES:
            if (file := place / name).is_file():
                if file.suffix == ".yaml":
                    return _yaml_names(file)
                return [line for _, line in read_lines(file)]
    return None


def _yaml_names(file: Path) -> list[str | None]:
    try:
        names = (parse_yaml(read_text(file, CONFIG_BYTES), str(file)) or {}).get("names")
    except (AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a data file of YOLO ({error})") from error
    if isinstance(names, dict) and all(isinstance(key, int) and key >= 0 for key in names):
        return [names.get(number) for number in range(max(names, default=-1) + 1)]
    if isinstance(names, list):
        return [str(name) for name in names]
    raise UserError(f"{file}: names is {str(names)[:200]}; expected a list of class names")
