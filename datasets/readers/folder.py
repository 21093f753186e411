"""Data set `folder`: one folder of images per person, split by identity with a seed."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ..records import Record, ReidData
from .image_files import EXTENSIONS, list_images
from .published import name_cameras
from .splits import split_identities, split_query_gallery

log = logging.getLogger(__name__)

_CAMERA = re.compile(r"(?<![a-z])c(?:am)?(\d+)", re.IGNORECASE)


def load_folder(root: str | Path, test_share: float = 0.5, seed: int = 0) -> ReidData:
    """Read one folder per person in `root` (or in `root`/folder, next to other data sets).

    The camera is read from the file name: `c2_0001.jpg` or `cam2` means camera 2. If a file has no camera number, or all have the
    same, cameras are unknown: only a query's own file is junk (protocol "own-file").

    Args:
        test_share: share of the identities that become query and gallery.
    Raises:
        FileNotFoundError: the folder is missing, or has fewer than two people with images.
    """
    root = Path(root).expanduser()
    root = root / "folder" if (root / "folder").is_dir() else root
    people = _people(root)
    files = [(path, pid) for pid, folder in enumerate(people) for path in list_images(folder)]
    cameras = [_CAMERA.search(path.name) for path, _ in files]
    known = all(cameras) and len({match[1] for match in cameras if match}) > 1
    if not known:
        log.warning(
            "%s: camera unknown (not every file has c1, c2, … in its name); images from a query's own camera count as matches",
            root,
        )
    numbers = [int(match[1]) if match and known else 0 for match in cameras]
    records = [Record(str(path), pid, number) for (path, pid), number in zip(files, numbers, strict=True)]
    return _split(records, [folder.name for folder in people], known, test_share, seed)


def _people(root: Path) -> list[Path]:
    """Return the folders that hold images, sorted."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    people = [folder for folder in folders if list_images(folder)]
    if len(people) < 2:
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: expected one folder of images ({', '.join(EXTENSIONS)}) per person, two people at "
            f"least, in {str(root)!r}; found {len(folders)} folders, {len(people)} with images"
        )
    return people


def _split(records: list[Record], names: list[str], known: bool, test_share: float, seed: int) -> ReidData:
    rows, cameras = name_cameras(records, "folder") if known else ({0: 0}, ("folder/unknown",))
    records = [Record(record.path, record.pid, rows[record.camid]) for record in records]
    protocol = "same-camera" if known else "own-file"
    num_test = min(max(1, round(len(names) * test_share)), len(names) - 1)
    train, test = split_identities(records, num_test, seed, "DATASETS.TEST_SHARE")
    query, gallery = split_query_gallery(test, seed, protocol)
    if not query:
        log.warning("folder: none of the %d test people has a query and a match; evaluation is not possible", num_test)
    return ReidData("folder", train, query, gallery, cameras, (), dict(enumerate(names)), protocol)
