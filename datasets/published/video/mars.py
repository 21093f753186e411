"""Reader of MARS, whose tracklets are rows of two tables (Zheng et al., ECCV 2016).

Of its 12,180 test tracklets 1,980 are queries and 870 are junk (person -1). The other 9,330 are the gallery, 3,248 of them are
distractors (person 0). Among them 140 queries have no tracklet of their person in another camera. The code of its authors keeps the
queries in the gallery, where each has one: this is the second setting.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ....common.errors import UserError
from ....common.inputs.regular_files import read_lines
from ....labels.setting import Setting
from ...records import ReidData
from ..image_names import LabelledImage, build_records
from ..published_dataset import PublishedDataset, find_folder, find_part
from .mat_table import read_table

_TRAIN = ("info/tracks_train_info.mat", "info/train_name.txt", "bbox_train")
_TEST = ("info/tracks_test_info.mat", "info/test_name.txt", "bbox_test")
_QUERY = "info/query_IDX.mat"
MARS = PublishedDataset(
    "mars",
    ("MARS",),
    "the folders bbox_train and bbox_test with a folder per person, of images such as 0001/0001C1T0001F001.jpg (person, camera, "
    "tracklet, frame), and the folder info with tracks_train_info.mat, tracks_test_info.mat, query_IDX.mat, train_name.txt and test_name.txt, "
    "which github.com/liangzheng06/MARS-evaluation has",
    "http://zheng-lab.cecs.anu.edu.au/Project/project_mars.html",
    (8298, 1980, 9330),
    (625, 626),
    6,
    (_TRAIN[2], _QUERY, _TEST[2]),
    (Setting(), Setting("as its authors", with_queries=True, interpolates=True)),
    items="tracklets",
)
_JUNK = -1
_COLUMNS = "first frame, last frame, person, camera"


def load_mars(root: str | Path) -> ReidData:
    """Read MARS from `root` or a folder below it; its training part may be missing.

    Junk is left out, distractors stay in the gallery, and queries are not in it.

    Raises:
        FileNotFoundError: the folder, a table, a list or a frame is missing.
        UserError: a table cannot be read, or its frames are not those of one person and camera; names the file and the row.
    """
    folder = find_folder(root, MARS, (*_TEST, _QUERY))
    test = _read_tracklets(folder, *_TEST)
    asked = _read_query(folder, len(test))
    query = [test[row] for row in sorted(asked)]
    gallery = [tracklet for row, tracklet in enumerate(test) if row not in asked]
    parts = {part: find_part(folder, part) for part in _TRAIN}
    if parts[_TRAIN[-1]] and not all(parts.values()):
        gone = next(part for part, place in parts.items() if place is None)
        raise FileNotFoundError(f"{folder}: {gone} of the training part is missing. Expected: {MARS.expected}")
    has_training = all(parts.values())
    train = _read_tracklets(folder, *_TRAIN) if has_training else []
    train, query, gallery = ([one for one in part if one.pid != _JUNK] for part in (train, query, gallery))
    return build_records(MARS, train, query, gallery)


def _read_tracklets(folder: Path, table: str, names: str, images: str) -> list[LabelledImage]:
    """Return a tracklet per row of the table, junk without frames."""
    file, place = find_part(folder, table) or folder / table, find_part(folder, images) or folder / images
    frames = _read_names(find_part(folder, names) or folder / names)
    kept = _FrameFiles(place)
    found = []
    for number, (first, last, pid, camera) in enumerate(_read_table(file), 1):
        if not 1 <= first <= last <= len(frames):
            raise UserError(
                f"{file}: row {number}: frames {first} to {last} are not among the {len(frames)} of {names}"
            )
        labels = int(pid), str(camera), "", "", str(number)
        if pid == _JUNK:
            found.append(LabelledImage("", *labels))
            continue
        own = frames[first - 1 : last]
        if wrong := [name for name in own if not name.startswith(f"{pid:04d}C{camera}")]:
            raise UserError(
                f"{file}: row {number} is of person {pid} in camera {camera}, its frame {wrong[0][:100]!r} of {names} is not; take "
                "all files of info from one release"
            )
        paths = kept.paths(own)
        found.append(LabelledImage(paths[0], *labels, paths))
    return found


def _read_table(file: Path) -> list[tuple[int, int, int, int]]:
    table = read_table(file, _COLUMNS)
    if table.shape[1] != len(_COLUMNS.split(", ")):
        raise UserError(f"{file}: {len(_COLUMNS.split(', '))} columns expected, {_COLUMNS}; found {table.shape[1]}")
    return [(first, last, pid, camera) for first, last, pid, camera in table.tolist()]


def _read_query(folder: Path, num_test: int) -> set[int]:
    """Return the rows, from 0, of the queries in the table of the test."""
    file = find_part(folder, _QUERY) or folder / _QUERY
    found = {row - 1 for row in read_table(file, "the rows of the queries").ravel().tolist()}
    if not found or min(found) < 0 or max(found) >= num_test:
        raise UserError(
            f"{file}: rows 1 to {num_test} of {_TEST[0]} expected, found {min(found, default=-1) + 1} to {max(found, default=-1) + 1}"
        )
    return found


def _read_names(file: Path) -> list[str]:
    try:
        return [line.strip() for line in read_lines(file)]
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a list in UTF-8 ({error.reason}); copy it again") from error


class _FrameFiles:
    """The image files of a folder with a folder per person; each is listed once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._names: dict[str, frozenset[str]] = {}

    def paths(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the paths of the images of one person.

        Raises:
            FileNotFoundError: some are missing; names the first.
        """
        person = names[0][:4]
        folder = os.path.join(self.place, person)
        if person not in self._names:
            self._names[person] = frozenset(os.listdir(folder) if os.path.isdir(folder) else ())
        if missing := [name for name in names if name not in self._names[person]]:
            raise FileNotFoundError(
                f"{os.path.join(folder, missing[0])}: {len(missing)} of the {len(names)} frames of its tracklet are missing; unpack "
                f"{self.place.name} again. Expected: {MARS.expected}"
            )
        return tuple(os.path.join(folder, name) for name in names)
