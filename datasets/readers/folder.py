"""Data set `folder`: one folder of images per person, split by identity with a seed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ...common.errors import UserError
from ...labels.name_pattern import NamePattern
from ..records import Record, ReidData
from .image_files import EXTENSIONS, OTHER_PICTURES, list_images, walk_images
from .splits import split_identities, split_query_gallery

log = logging.getLogger(__name__)

_CAMERA = re.compile(r"(?<![a-z])c(?:am)?(\d+)", re.IGNORECASE)
_CAMERA_FOLDER = re.compile(r"cam(era)?[\W_]*\w{0,2}|c\d{1,2}", re.IGNORECASE)
_SPLIT_FOLDERS = {"bounding_box_train", "bounding_box_test", "query", "gallery", "train", "test", "val"}


def load_folder(root: str | Path, test_share: float = 0.5, seed: int = 0, camera_pattern: str = "") -> ReidData:
    """Read one folder per person in `root` (or in `root`/folder, next to other data sets), with its sub-folders.

    The camera is read from the file's name, or else from the sub-folder's: `c2_0001.jpg` or `cam2` means camera 2. If a file
    has no camera number, or all have the same, cameras are unknown: only a query's own file is junk (protocol "own-file").

    Args:
        test_share: share of the identities that become query and gallery.
        camera_pattern: regular expression that finds the camera's name in the path below `root`, see `NamePattern`.
    Raises:
        FileNotFoundError: the folder is missing, or has fewer than two people with images.
        ValueError: the folders are cameras or splits, not people; or the pattern does not match all files.
    """
    root = Path(root).expanduser()
    root = root / "folder" if (root / "folder").is_dir() else root
    people = _people(root)
    files = [(path, pid) for pid, images in enumerate(people.values()) for path in images]
    below = [os.path.relpath(path, root) for path, _ in files]
    camids, cameras = find_cameras(below, "folder", camera_pattern, [path.partition(os.sep)[2] for path in below])
    if not (known := len(cameras) > 1):
        log.warning(
            "%s: cameras unknown (not every file has c1, c2, … in its name, or all the same; DATASETS.CAMERA_PATTERN finds "
            "others): images from a query's own camera count as matches",
            root,
        )
    records = [Record(path, pid, camid) for (path, pid), camid in zip(files, camids, strict=True)]
    return _split(records, list(people), cameras, known, _left_out(root), test_share, seed)


def find_cameras(
    paths: Sequence[str], data_set: str, camera_pattern: str, folders: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """Return the camid of each file and the names of the cameras, in their natural order; a single "unknown" if none is known.

    Args:
        paths: below the data set's folder.
        camera_pattern: see `NamePattern`; "" = the number behind c, cam or camera in a file's name, or else in `folders`, the
            part of its path that may name a camera.
    Raises:
        ValueError: the pattern does not match all files.
    """
    if camera_pattern:
        names = _named(NamePattern("DATASETS.CAMERA_PATTERN", camera_pattern), paths, data_set)
    else:
        names = _numbered(paths, data_set, folders)
    if len(set(names)) > 1:
        cameras = tuple(sorted(set(names), key=_natural))
    else:
        cameras = (f"{data_set}/unknown",) if not names[0] or not camera_pattern else (names[0],)
    rows = {name: row for row, name in enumerate(cameras)}
    return [rows.get(name, 0) for name in names], cameras


def _people(root: Path) -> dict[str, list[str]]:
    """Return the images of each person, by the names of the folders, sorted."""
    found = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    folders = sorted(path for path in found if not path.name.startswith("."))
    people = {folder.name: images for folder in folders if (images := list(walk_images(folder)))}
    _check_people(root, list(people))
    if len(people) < 2:
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: expected one folder of images ({', '.join(EXTENSIONS)}) per person, two people at "
            f"least, in {str(root)!r}; found {len(folders)} folders, {len(people)} with images"
        )
    return people


def _check_people(root: Path, names: Sequence[str]) -> None:
    """Raise ValueError if the folders are those of another layout, whose parts would become people."""
    if {"bounding_box_train", "bounding_box_test"} & set(names):
        raise UserError(
            f"{root}: {', '.join(names)} are the folders of Market-1501's layout, not people; read them with DATASETS.NAMES "
            "market1501"
        )
    expected = "expected is one folder per person, with the images of all cameras in it"
    if len(names) > 1 and {name.lower() for name in names} <= _SPLIT_FOLDERS:
        raise UserError(
            f"{root}: {', '.join(names)} are splits, not people; {expected}; name one of them in DATASETS.ROOT_DIR"
        )
    if len(names) > 1 and all(_CAMERA_FOLDER.fullmatch(name) for name in names):
        raise UserError(
            f"{root}: {', '.join(names[:5])} look like cameras, not people; {expected}. A manifest (CSV) takes any layout; if these "
            "are people, give the folders other names, e.g. person_c1"
        )


def _named(pattern: NamePattern, paths: Sequence[str], data_set: str) -> list[str]:
    """Return the name of each file's camera; raise ValueError if the pattern finds none in some."""
    found = [pattern.of(path) for path in paths]
    if missing := [path for path, name in zip(paths, found) if name is None]:
        raise pattern.missing(len(missing), len(paths), missing[0])
    return [f"{data_set}/{name}" for name in found]


def _numbered(paths: Sequence[str], data_set: str, folders: Sequence[str]) -> list[str]:
    """Return the name of each file's camera by its number; all "" unless every file has one."""
    places = zip(map(os.path.basename, paths), folders, strict=True)
    found = [_CAMERA.search(name) or _CAMERA.search(folder) for name, folder in places]
    return [f"{data_set}/c{int(match[1])}" if match and all(found) else "" for match in found]


def _natural(name: str) -> tuple[str | int, ...]:
    """Return a key that orders c2 before c10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def _left_out(root: Path) -> tuple[str, ...]:
    """Return the pictures that belong to nobody, or are of a format that is not read."""
    return (*map(str, list_images(root)), *walk_images(root, OTHER_PICTURES))


def _split(
    records: list[Record],
    names: list[str],
    cameras: tuple[str, ...],
    known: bool,
    left_out: tuple[str, ...],
    test_share: float,
    seed: int,
) -> ReidData:
    protocol = "same-camera" if known else "own-file"
    num_test = min(max(1, round(len(names) * test_share)), len(names) - 1)
    train, test = split_identities(records, num_test, seed, "DATASETS.TEST_SHARE")
    query, gallery = split_query_gallery(test, seed, protocol)
    if not query:
        log.warning("folder: none of the %d test people has a query and a match; evaluation is not possible", num_test)
    people = dict(enumerate(names))
    return ReidData("folder", train, query, gallery, cameras, (), people, protocol, left_out=left_out)
