"""Reader of MSMT17, versions 1 and 2: a folder per identity, splits in list files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from ...common.inputs.regular_files import read_lines
from ..records import Record, ReidData
from .published_dataset import PublishedDataset, check_counts, find_folder, name_cameras

_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))  # version 1, version 2 (faces masked)
_CAMERA, _PID = re.compile(r"-?\d+_\d+_(\d+)"), re.compile(r"\d{1,15}")

MSMT17 = PublishedDataset(
    "msmt17",
    ("MSMT17", "MSMT17_V1", "MSMT17_V2"),
    "the folders train and test (version 1) or mask_train_v2 and mask_test_v2 (version 2) next to list_train.txt, "
    "list_val.txt, list_query.txt and list_gallery.txt, whose lines are '0000/0000_000_01_0303morning_0008_0.jpg 0'",
    "https://www.pkuvmc.com/dataset.html",
    (32621, 11659, 82161),
    (1041, 3060),
    15,
)


def load_msmt17(root: str | Path) -> ReidData:
    """Read MSMT17 [Wei et al., CVPR 2018]; its training and validation lists together are the training set.

    The lists number train and test identities from 0; here test pids follow the training pids.

    Raises:
        FileNotFoundError: the folder, a list or an image folder is missing.
        ValueError: a line of a list cannot be read; names file and line.
    """
    folder = find_folder(root, MSMT17, _LISTS)
    train_folder, test_folder = _image_folders(folder)
    lists = [_read(folder / name, folder / (test_folder if name in _LISTS[2:] else train_folder)) for name in _LISTS]
    train, query, gallery = lists[0] + lists[1], lists[2], lists[3]
    rows, names = name_cameras((*train, *query, *gallery), MSMT17.name)
    first = max(record.pid for record in train) + 1

    def number(records: list[Record], offset: int) -> list[Record]:
        return [replace(record, pid=record.pid + offset, camid=rows[record.camid]) for record in records]

    data = ReidData(MSMT17.name, number(train, 0), number(query, first), number(gallery, first), names)
    return check_counts(data, MSMT17)


def _image_folders(folder: Path) -> tuple[str, str]:
    for names in _FOLDERS:
        if all((folder / name).is_dir() for name in names):
            return names
    found = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folder"
    raise FileNotFoundError(f"{folder}: the images of msmt17 are missing. Expected: {MSMT17.expected}. Found: {found}")


def _read(list_file: Path, images: Path) -> list[Record]:
    """Return the records of a list; camids are the numbers in the file names."""
    try:
        lines = [line.strip() for line in read_lines(list_file)]
    except UnicodeDecodeError as error:
        raise UserError(f"{list_file}: not a list in UTF-8 ({error.reason}); copy it again") from error
    records = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        path, _, pid = line.rpartition(" ")
        camera = _CAMERA.match(Path(path).name)
        if camera is None or not _PID.fullmatch(pid):
            raise UserError(
                f"{list_file}:{number}: cannot read {line[:200]!r}; expected '0000/0000_000_01_0303morning_0008_0.jpg 0'"
            )
        records.append(Record(str(images / path), int(pid), int(camera[1])))
    if not records:
        raise FileNotFoundError(f"{list_file}: the list is empty. Expected: {MSMT17.expected}")
    return records
