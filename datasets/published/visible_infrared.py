"""Readers of data sets with visible and infrared pictures: SYSU-MM01 and RegDB. The modality is the view of a record.

Side information: `MODEL.SIE_VIEW True` gives the model an embedding for each modality.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...labels.setting import PER_CAMERA, Setting
from ..readers.image_files import list_images
from ..records import ReidData
from .image_names import LabelledImage, build_records
from .published_dataset import PublishedDataset, find_folder, find_part

VISIBLE, INFRARED = "visible", "infrared"
_VISIBLE_CAMERAS, _INFRARED_CAMERAS, _TRIALS = "1245", "36", 10


def _sysu_setting(search: str, cameras: str, shot: str, images: int) -> Setting:
    """Return a setting of SYSU-MM01: the galleries are drawn from visible cameras, ten times."""
    names = tuple(f"sysu-mm01/c{number}" for number in cameras)
    return Setting(f"{search} search, {shot} shot", "same-place", (), names, PER_CAMERA, _TRIALS, images)


SYSU_MM01 = PublishedDataset(
    "sysu-mm01",
    ("SYSU-MM01", "SYSU_MM01", "sysu"),
    "the folders cam1 to cam6 with a folder per person, of images such as 0001/0001.jpg, and exp/train_id.txt, exp/val_id.txt and "
    "exp/test_id.txt, each a line of numbers with commas between",
    "https://github.com/wuancong/SYSU-MM01",
    # 22,258 visible and 11,909 infrared; of the gallery only the 301 images of a draw are published. Its README has 30,071 visible and
    # 15,792 infrared in all: 80 infrared more than those of the 491 people, so the difference is not the gallery
    (34167, 3803, None),
    (395, 96),
    6,
    ("exp/train_id.txt", "exp/test_id.txt", "cam1"),
    tuple(
        _sysu_setting(search, cameras, shot, images)
        for search, cameras in (("all", _VISIBLE_CAMERAS), ("indoor", "12"))
        for shot, images in (("single", 1), ("multi", 10))
    ),
    views={**dict.fromkeys(_VISIBLE_CAMERAS, VISIBLE), **dict.fromkeys(_INFRARED_CAMERAS, INFRARED)},
    places={"2": "room 2", "3": "room 2"},
)


def load_sysu_mm01(root: str | Path) -> ReidData:
    """Read SYSU-MM01 [Wu et al., ICCV 2017]; training and validation people together are the training set.

    Infrared images are the queries, visible ones the gallery. Camera 3 stands where camera 2 does, so its queries skip that one.

    Raises:
        FileNotFoundError: the folder, a list or a camera is missing, or no image is found.
        UserError: a list cannot be read; names the file.
    """
    lists = {part: f"exp/{part}_id.txt" for part in ("train", "val", "test")}
    folder = find_folder(root, SYSU_MM01, [lists["test"], "cam1"])
    people = {part: _read_ids(folder, name) for part, name in lists.items()}
    train = _sysu_images(folder, people["train"] | people["val"], _VISIBLE_CAMERAS + _INFRARED_CAMERAS)
    query, gallery = (_sysu_images(folder, people["test"], cams) for cams in (_INFRARED_CAMERAS, _VISIBLE_CAMERAS))
    for name, part in (("query", query), ("gallery", gallery)):
        if not part:
            raise FileNotFoundError(
                f"{folder}: no {name} image of the people in {lists['test']}. Expected: {SYSU_MM01.expected}"
            )
    return build_records(SYSU_MM01, train, query, gallery)


def _read_ids(folder: Path, name: str) -> set[int]:
    """Return the numbers in a list of people; none if there is no such file."""
    file = find_part(folder, name)
    words = [word.strip() for line in (read_lines(file) if file else ()) for word in line.split(",") if word.strip()]
    for word in words:
        if not re.fullmatch(r"\d{1,9}", word):
            raise UserError(f"{file}: cannot read {word[:200]!r}; expected numbers with commas between, such as 1,2,4")
    return set(map(int, words))


def _sysu_images(folder: Path, people: set[int], cameras: str) -> list[LabelledImage]:
    """Return the images of the people before the cameras."""
    found = []
    for camera in cameras:
        place = find_part(folder, f"cam{camera}")
        if place is None:
            raise FileNotFoundError(f"{folder}: the folder cam{camera} is missing. Expected: {SYSU_MM01.expected}")
        for person in sorted(path for path in place.iterdir() if path.is_dir() and path.name.isdigit()):
            if int(person.name) in people:
                found += [LabelledImage(str(path), int(person.name), camera) for path in list_images(person)]
    return found


REGDB = PublishedDataset(
    "regdb",
    ("RegDB", "regdb"),
    "the folders Visible and Thermal next to idx with the lists of trial 1 to 10, train_visible_1.txt, train_thermal_1.txt, "
    "test_visible_1.txt and test_thermal_1.txt, whose lines are an image and its person's number, such as 'Visible/12/a.bmp 0'",
    "http://dm.dongguk.edu/link.html",
    (4120, 2060, 2060),  # 412 people, ten images of each modality
    (206, 206),
    2,
    settings=(
        Setting("visible to infrared", query_cameras=("regdb/visible",), gallery_cameras=("regdb/infrared",)),
        Setting("infrared to visible", query_cameras=("regdb/infrared",), gallery_cameras=("regdb/visible",)),
    ),
    views={VISIBLE: VISIBLE, INFRARED: INFRARED},
    prefix="regdb",
)


def regdb_of(trial: int) -> PublishedDataset:
    """Return the description of RegDB with the split of a trial, 1 to 10."""
    names = [f"idx/{part}_{trial}.txt" for part in ("train_visible", "test_visible", "test_thermal")]
    name = "regdb" if trial == 1 else f"regdb-{trial}"
    return replace(REGDB, name=name, subsets=(names[0], names[1], names[2]))


def load_regdb(root: str | Path, trial: int = 1) -> ReidData:
    """Read RegDB [Nguyen et al., Sensors 2017] in the splits of Ye et al., which number people from 0 in training and in test.

    Each modality's test images are query and gallery at once; a setting takes one modality for the query, the other for the gallery.

    Raises:
        FileNotFoundError: the folder, a list or an image is missing, or a list is empty.
        UserError: a line of a list cannot be read; names file and line.
    """
    published = regdb_of(trial)
    folder = find_folder(root, published, published.subsets[1:])
    parts = {
        (part, camera): _read_list(folder, f"idx/{part}_{modality}_{trial}.txt", camera)
        for part in ("train", "test")
        for modality, camera in (("visible", VISIBLE), ("thermal", INFRARED))
    }
    train = [*parts["train", VISIBLE], *parts["train", INFRARED]]
    first = 1 + max((one.pid for one in train), default=-1)
    test = [one._replace(pid=one.pid + first) for part in (VISIBLE, INFRARED) for one in parts["test", part]]
    return build_records(published, train, test, test)


def _read_list(folder: Path, name: str, camera: str) -> list[LabelledImage]:
    """Return the images of a list; those of training may be missing."""
    file = find_part(folder, name)
    if file is None and "train_" in name:
        return []
    if file is None:
        raise FileNotFoundError(f"{folder}: {name} is missing. Expected: {REGDB.expected}")
    found = []
    for number, line in enumerate(read_lines(file), 1):
        path, _, pid = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not path or not re.fullmatch(r"\d{1,9}", pid):
            raise UserError(f"{file}:{number}: cannot read {line.strip()[:200]!r}; expected 'Visible/12/a.bmp 0'")
        found.append(LabelledImage(str(folder / path.replace("\\", "/")), int(pid), camera))
    if not found:
        raise FileNotFoundError(f"{file}: the list is empty. Expected: {REGDB.expected}")
    return found
