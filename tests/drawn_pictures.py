"""Small pictures of noise, for trees of data sets."""

from zlib import crc32

import numpy as np
from PIL import Image


def draw(folder, names, size=(32, 64)):
    """Write small pictures that differ, for training."""
    rng = np.random.default_rng(crc32("/".join(folder.parts[-3:]).encode()))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
