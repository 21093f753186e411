"""Drawn people as crops, on which two forms of a model are compared."""

from __future__ import annotations

import numpy as np

from ...datasets.synthetic.camera import make_cameras, photograph
from ...datasets.synthetic.identity import make_people

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
