"""Data set `crops`: the images of a folder and of its sub-folders, of unknown people."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ...common.errors import UserError
from ..records import UNLABELLED, Record, ReidData
from .folder import find_cameras
from .image_files import EXTENSIONS, OTHER_PICTURES, walk_images

log = logging.getLogger(__name__)


def load_crops(root: str | Path, camera_pattern: str = "") -> ReidData:
    """Read all images in `root` (or in `root`/crops, next to other data sets) for training without labels.

    Cameras are found as in the data set `folder`; sub-folders are not people. There is no query and no gallery.

    Args:
        camera_pattern: regular expression that finds the camera's name in the path below `root`, see `NamePattern`.
    Raises:
        FileNotFoundError: the folder is missing, or has no images.
        ValueError: the pattern does not match all files.
    """
    root = Path(root).expanduser()
    root = root / "crops" if (root / "crops").is_dir() else root
    paths = list(walk_images(root)) if root.is_dir() else []
    if not paths:
        raise FileNotFoundError(
            f"DATASETS.ROOT_DIR: expected images of people ({', '.join(EXTENSIONS)}) in {str(root)!r} or its folders; found none"
        )
    below = [os.path.relpath(path, root) for path in paths]
    camids, cameras = find_cameras(below, "crops", camera_pattern, below)
    if len(cameras) == 1:
        log.warning(
            "%s: one camera, or cameras unknown (DATASETS.CAMERA_PATTERN finds them in the paths): clusters are made and drawn from "
            "without regard to cameras",
            root,
        )
    train = [Record(path, UNLABELLED, camid) for path, camid in zip(paths, camids, strict=True)]
    protocol = "same-camera" if len(cameras) > 1 else "own-file"
    left_out = tuple(walk_images(root, OTHER_PICTURES))
    return ReidData("crops", train, [], [], cameras, protocol=protocol, left_out=left_out)


def refuse_unlabelled(data: ReidData, key: str = "DATASETS.NAMES") -> None:
    """Raise UserError if people of training images are unknown: training with labels needs them all.

    Args:
        key: the option that names the data set.
    """
    unknown = [record.path for record in data.train if record.pid == UNLABELLED]
    if unknown:
        raise UserError(
            f"{key}: {data.name} has {len(unknown)} training images of unknown people ({unknown[0]}, …); "
            + (
                "training without labels needs UNSUPERVISED.CLUSTERING, e.g. dbscan"
                if key == "DATASETS.NAMES"
                else "a source needs them all; name it in DATASETS.NAMES instead"
            )
        )
