"""The usual names of columns in tables of boxes, and what they mean."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.errors import UserError

CORNER_NAMES = ("x1", "y1", "x2", "y2")  # of a box that is one value with four parts, as in Ultralytics' results
CORNERS = (  # x0, y0, x1, y1
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
)
SIZED = (  # upper left corner and size
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
    ("left", "top", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("bbleft", "bbtop", "bbwidth", "bbheight"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
)
CENTRED = (  # centre and size
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
    ("xc", "yc", "w", "h"),
    ("xcenter", "ycenter", "width", "height"),
    ("xcenter", "ycenter", "w", "h"),
)
BOXES = [*((names, "corners") for names in CORNERS), *((names, "size") for names in SIZED)] + [
    (names, "centre") for names in CENTRED
]
MEANINGS = {  # first come first served where a table has several
    "picture": ("path", "image", "imagepath", "imagename", "img", "file", "filename", "filepath"),
    "video": ("video", "videopath", "videoname"),
    "frame": ("frame", "frameid", "framenumber", "frameno", "frameindex", "frameidx", "framenum"),
    "seconds": ("seconds", "timeseconds", "times", "timesec", "timestamp", "time"),
    "score": ("score", "confidence", "conf", "probability", "prob"),
    "label": ("label", "classname", "name", "category", "categoryname", "class", "classid", "categoryid"),
    "track": ("track", "trackid", "trackerid", "tracklet", "trackletid", "objectid", "id", "personid"),
}


@dataclass(frozen=True)
class BoxColumns:
    """Which columns of a table hold what.

    Args:
        box: the four columns of a box.
        kind: what they state: "corners", "size" or "centre".
        others: "picture", "video", "frame", "seconds", "score", "label", "track" -> column, where there is one.
    """

    box: tuple[str, str, str, str]
    kind: str
    others: Mapping[str, str]

    @classmethod
    def find(cls, columns: Sequence[str]) -> BoxColumns | None:
        """Return the meaning of a table's columns, by their names; None if no box is among them.

        >>> BoxColumns.find(["frame_id", "x_min", "y_min", "x_max", "y_max"]).others
        {'frame': 'frame_id'}
        """
        by_name: dict[str, str] = {}
        if "box" in columns:
            columns = [*columns, *CORNER_NAMES]
        for column in columns:
            by_name.setdefault(plain_name(column), column)
        for names, kind in BOXES:
            if by_name.keys() >= set(names):
                a, b, c, d = (by_name[name] for name in names)
                taken = set(names)
                others = {
                    meaning: next(by_name[name] for name in usual if name in by_name and name not in taken)
                    for meaning, usual in MEANINGS.items()
                    if any(name in by_name and name not in taken for name in usual)
                }
                return cls((a, b, c, d), kind, others)
        return None

    def corners(self, values: Mapping[str, object], where: str) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of a row.

        Args:
            where: file and line, for the message.
        Raises:
            UserError: a value is missing or no number, or the box has no area.
        """
        a, b, c, d = (to_number(values.get(column), f"{where}: {column}") for column in self.box)
        return checked_corners(a, b, c, d, self.kind, where)


def checked_corners(a: float, b: float, c: float, d: float, kind: str, where: str) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of four numbers.

    Args:
        kind: "corners", "size" (upper left corner, width, height) or "centre" (centre, width, height).
    Raises:
        UserError: the box has no area; names the place.
    """
    if kind == "size":
        box = (a, b, a + c, b + d)
    elif kind == "centre":
        box = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    else:
        box = (a, b, c, d)
    if box[2] <= box[0] or box[3] <= box[1]:
        stated = "x0, y0, x1, y1" if kind == "corners" else "x, y, width, height"
        raise UserError(f"{where}: the box {a:g}, {b:g}, {c:g}, {d:g} has no area; expected {stated}")
    return box


def plain_name(column: str) -> str:
    """Return a column's name in small letters and digits only.

    >>> plain_name("bb_left"), plain_name(" X-Max "), plain_name("box.x1")
    ('bbleft', 'xmax', 'x1')
    """
    name = re.sub(r"^(box|bbox)\.", "", column.strip().lower())
    return re.sub(r"[^a-z0-9]", "", name)


def to_number(value: object, where: str) -> float:
    """Return a finite number.

    Raises:
        UserError: the value is none; names the place.
    """
    try:
        number = float(str(value).strip())
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        shown = "nothing" if value is None or not str(value).strip() else repr(value)
        raise UserError(f"{where}: expected a number, found {shown}")
    return number


def to_whole(value: object, where: str) -> int:
    """Return a whole number; "12" and "12.0" are one.

    Raises:
        UserError: the value is none; names the place.
    """
    number = to_number(value, where)
    if number != int(number) or abs(number) >= 2**63:
        raise UserError(f"{where}: expected a whole number, found {str(value)[:40]!r}")
    return int(number)


def flat_row(row: Any, where: str) -> dict[str, Any]:
    """Return a row with its box as four values x1, y1, x2, y2; a box of four corners becomes the rectangle around it.

    Raises:
        UserError: the row is no object, or its box has no corners.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: expected an object with named values, found {type(row).__name__}")
    flat = {key: value for key, value in row.items() if not isinstance(value, (Mapping, list))}
    box = row.get("box", row.get("bbox"))
    if isinstance(box, str) and box.strip().startswith("{"):  # in a CSV file
        try:
            box = ast.literal_eval(box)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{where}: the box is {box!r}") from error
    if not isinstance(box, Mapping):
        return flat
    flat.pop("box", None)
    xs = [value for key, value in box.items() if str(key).startswith("x")]
    ys = [value for key, value in box.items() if str(key).startswith("y")]
    if len(xs) != len(ys) or len(xs) < 2 or not all(isinstance(value, (int, float)) for value in [*xs, *ys]):
        raise UserError(f"{where}: the box is {dict(box)}; expected x1, y1, x2, y2")
    return {**flat, **dict(zip(CORNER_NAMES, (min(xs), min(ys), max(xs), max(ys))))}
