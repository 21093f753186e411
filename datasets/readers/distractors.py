"""Distractors: gallery images of people who are not queried, for galleries of realistic size (Market-1501+500k)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..records import Record, ReidData
from .image_files import EXTENSIONS, walk_images

CAMERA = "distractors"  # not a training camera: its images use the fallback row of the side-information table


def load_distractors(folder: str | Path) -> ReidData:
    """Read every image in `folder` and its sub-folders, as the gallery of one pid and one camera.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"DATASETS.DISTRACTORS: no folder {str(folder)!r}; name one that holds images")
    paths = list(walk_images(folder))
    if not paths:
        raise FileNotFoundError(
            f"DATASETS.DISTRACTORS: no image ({', '.join(EXTENSIONS)}) in {str(folder)!r} or below; leave it empty for none"
        )
    return ReidData(CAMERA, [], [], [Record(path, 0, 0) for path in paths], (CAMERA,))


def add_distractors(data: ReidData, distractors: ReidData) -> ReidData:
    """Return `data` with the distractors at the end of its gallery, under one new pid."""
    cameras = tuple(dict.fromkeys([*data.camera_names, CAMERA]))
    pid = 1 + max((record.pid for record in (*data.train, *data.query, *data.gallery)), default=-1)
    added = [replace(record, pid=pid, camid=cameras.index(CAMERA)) for record in distractors.gallery]
    return replace(data, gallery=[*data.gallery, *added], camera_names=cameras)
