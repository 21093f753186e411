"""Reader of VehicleID: vehicles seen by unknown cameras, lists of training and of test vehicles.

Each line of `train_test_split/train_list.txt` and `test_list_800.txt` holds an image's number and its vehicle's: `0000001 1`. Test images
are query and gallery at once: the evaluation draws one image of each vehicle as the gallery, ten times [Liu et al., CVPR 2016].
"""

from __future__ import annotations

import re
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ...labels.setting import PER_PERSON, Setting
from ..records import Record, ReidData
from .published_dataset import PublishedDataset, check_counts, find_folder, find_part

TEST_SIZES = (800, 1600, 2400)  # vehicles of the test lists that papers report
TRAIN_IMAGES = 113346  # lines of its list; these and those of the test lists are from FastReID's reader
TEST_IMAGES = dict(zip(TEST_SIZES, (6493, 13377, 19777)))
NUM_GALLERIES = 10
_LINE = re.compile(r"(\S+)\s+(\d{1,15})")


def vehicleid_of(num_vehicles: int) -> PublishedDataset:
    """Return the description of VehicleID with the test list of that many vehicles."""
    lists = ("train_test_split/train_list.txt", f"train_test_split/test_list_{num_vehicles}.txt")
    return PublishedDataset(
        "vehicleid" if num_vehicles == TEST_SIZES[0] else f"vehicleid-{num_vehicles}",
        ("VehicleID_V1.0", "VehicleID"),
        f"the folder image with images such as 0000001.jpg, {lists[0]} and {lists[1]}, whose lines are '0000001 1'",
        "https://www.pkuml.org/resources/pku-vehicleid.html",
        (TRAIN_IMAGES, TEST_IMAGES[num_vehicles], TEST_IMAGES[num_vehicles]),
        people=(13164, num_vehicles),
        subsets=(*lists, "image"),
        settings=(Setting("", "own-file", draw=PER_PERSON, repeats=NUM_GALLERIES),),
    )


def load_vehicleid(root: str | Path, num_vehicles: int = TEST_SIZES[0]) -> ReidData:
    """Read VehicleID from `root` or a folder below it.

    Args:
        num_vehicles: of the test list.
    Raises:
        FileNotFoundError: the folder is missing, or a list is empty.
        UserError: a line of a list cannot be read, or names an image that is not there; names file and line.
    """
    published = vehicleid_of(num_vehicles)
    folder = find_folder(root, published, published.subsets[1:])
    lists = [find_part(folder, name) for name in published.subsets[:2]]
    images = find_part(folder, published.subsets[2])
    there = {path.stem: path for path in (images or folder).iterdir() if path.suffix.lower() in (".jpg", ".png")}
    train, test = ([] if path is None else _read(path, there, published) for path in lists)
    data = ReidData(published.name, train, test, test, ("vehicleid/unknown",), settings=published.settings)
    return check_counts(data, published)


def _read(list_file: Path, images: dict[str, Path], published: PublishedDataset) -> list[Record]:
    """Return the records of a list."""
    records = []
    for number, line in enumerate(read_lines(list_file), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise UserError(f"{list_file}:{number}: cannot read {line.strip()[:200]!r}; expected '0000001 1'")
        path = images.get(found[1])
        if path is None:
            raise UserError(f"{list_file}:{number}: the folder image has no {found[1]}.jpg; unpack all images")
        records.append(Record(str(path), int(found[2]), 0))
    if not records:
        raise FileNotFoundError(f"{list_file}: the list is empty. Expected: {published.expected}")
    return records
