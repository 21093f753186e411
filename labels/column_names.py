"""Column names of tables about images: what the field calls path, person, camera, view, time, tracklet and split."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..common.errors import UserError

# field -> its own names; a table that has several of them says the same thing twice
NAMES = {
    "path": ("path",),
    "pid": ("pid",),
    "camera": ("camera", "camid"),
    "view": ("view", "viewid"),
    "time": ("time",),
    "tracklet": ("tracklet",),
    "clothes": ("clothes",),
    "split": ("split",),
}
# further names, which count only in a table without the names above; otherwise they are columns like any other
SYNONYMS = {
    "path": ("image", "image_path", "img_path", "img", "file", "filename", "file_name", "filepath"),
    "pid": ("person", "person_id", "identity", "vehicle_id"),
    "camera": ("cam", "cam_id", "camera_id", "cameraid"),
    "view": ("view_id", "viewpoint"),
    "time": ("timestamp", "datetime"),
    "clothes": ("clothes_id", "cloth_id", "outfit"),
    "tracklet": ("tracklet_id", "trackid", "track_id"),
    "split": ("subset",),
}


def find_columns(columns: Sequence[str], fields: Sequence[str], where: str) -> dict[str, str]:
    """Return column -> field for the columns that name one of the fields; capitals, spaces and dashes do not matter.

    >>> find_columns(["Path", "person", "camid", "colour"], ("path", "pid", "camera"), "people.csv:1")
    {'Path': 'path', 'person': 'pid', 'camid': 'camera'}

    Args:
        where: file and line, for errors.
    Raises:
        UserError: two columns mean one field; names both.
    """
    found = {}
    for field in fields:
        for accepted in (NAMES[field], SYNONYMS[field]):
            named = [column for column in columns if _plain(column) in accepted]
            if len(named) > 1:
                raise UserError(
                    f"{where}: the columns {' and '.join(named)} both mean {field}; keep one, or rename the other"
                )
            if named:
                found[named[0]] = field
                break
    return found


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def is_windows_path(path: str) -> bool:
    """Return whether a path of a table is one of Windows, read on another system."""
    return os.name != "nt" and ("\\" in path or re.match(r"[A-Za-z]:", path) is not None)


def why_absent(path: str) -> str:
    """Return the likely reason why a path of a CSV file leads to no file."""
    if is_windows_path(path):
        return "this is a Windows path: write / in the place of \\, from the CSV file's folder on"
    return "paths start at the CSV file's folder"
