"""Crops for comparing two models: synthetic people, or the user's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..datasets import CorruptImageError, read_image
from ..datasets.readers.image_files import EXTENSIONS, walk_images
from ..datasets.synthetic.camera import make_cameras, photograph
from ..datasets.synthetic.identity import make_people

NUM_CAMERAS = 4


def synthetic_crops(count: int, seed: int) -> list[np.ndarray]:
    """Draw `count` images (128, 64, 3) uint8 RGB: each person seen once by each of four cameras."""
    people = make_people(count // NUM_CAMERAS + 4, seed)
    cameras = make_cameras(NUM_CAMERAS, seed)
    rng = np.random.default_rng([seed, 3])
    return [
        photograph(cameras[number % NUM_CAMERAS], people[number // NUM_CAMERAS], people[-2:], (128, 64), rng)
        for number in range(count)
    ]


def folder_crops(folder: str, count: int) -> list[np.ndarray]:
    """Read up to `count` images of a folder and its subfolders, spread evenly over the sorted names.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: one of them cannot be read; names it.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"--crops: there is no folder {folder}")
    paths = list(walk_images(folder))
    if not paths:
        raise FileNotFoundError(f"--crops: no image ({', '.join(EXTENSIONS)}) in {folder} or below")
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [_read(paths[place]) for place in chosen]


def _read(path: str) -> np.ndarray:
    try:
        return read_image(path)
    except CorruptImageError as error:
        raise UserError(f"--crops: {path} cannot be read as an image; replace it, or move it elsewhere") from error
