"""A sheet of random images: a row per person, a column per camera."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.pictures import encode, fit, grid, pad, text_picture
from ..loading.decode import CorruptImageError, read_image
from .entries import CheckedImage, Listing

_CELL = (128, 64)  # (height, width) in pixels
_CAPTION = (16, 64)
_PEOPLE, _CAMERAS = 12, 16
_BACKGROUND = 200  # grey level of a cell


def draw_montage(listing: Listing, unreadable: set[str], seed: int = 0) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR: up to 12 random people, those seen by two cameras or more first.

    Half of the rows are training people, half test people, if there are both. An empty cell: this camera never saw the person.
    """
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, int], dict[int, list[CheckedImage]]] = defaultdict(lambda: defaultdict(list))
    for entry in listing.entries:
        if entry.record.path not in unreadable:
            side = "test" if entry.is_test else "train"
            cells[side, entry.record.pid][entry.record.camid].append(entry)
    cameras = range(min(len(listing.data.camera_names), _CAMERAS))
    names = [listing.data.camera_names[camera].rsplit("/")[-1] for camera in cameras]
    header = [_caption(name) for name in ("", *names)]
    rows = [
        _row(listing, side, [entries.get(camera, []) for camera in cameras], rng)
        for side, entries in _choose(cells, rng)
    ]
    return grid([header, *rows])[..., ::-1]


def write_montage(file: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR as PNG, or as the file's suffix says; an interruption leaves an earlier file intact."""
    check_name(file)
    content = encode(picture[..., ::-1], file.suffix or ".png")
    write_atomically(file, lambda temporary: temporary.write_bytes(content))


def check_name(file: Path) -> None:
    """Raise ValueError unless OpenCV can write an image file of that name."""
    try:
        encode(np.zeros((1, 1, 3), np.uint8), file.suffix or ".png")
    except (cv2.error, ValueError):
        raise UserError(
            f"--montage: cannot write a picture called {str(file)!r}; choose a name that ends in .png or .jpg"
        ) from None


def _choose(
    cells: dict[tuple[str, int], dict[int, list[CheckedImage]]], rng: np.random.Generator
) -> list[tuple[str, dict[int, list[CheckedImage]]]]:
    """Return the people of the rows: those with two cameras or more first, in random order."""
    chosen = []
    sides = sorted({side for side, _ in cells}, reverse=True)  # train, then test
    for side in sides:
        people = [entries for (its_side, _), entries in sorted(cells.items()) if its_side == side]
        order = [people[place] for place in rng.permutation(len(people))]
        order.sort(key=lambda entries: len(entries) < 2)  # stable: the random order remains
        chosen += [(side, entries) for entries in order[: _PEOPLE // len(sides)]]
    return chosen


def _row(listing: Listing, side: str, cells: list[list[CheckedImage]], rng: np.random.Generator) -> list[np.ndarray]:
    someone = next((cell[0] for cell in cells if cell), None)  # None: seen only by cameras that are not shown
    label = np.vstack([_caption(side), _caption(listing.person(someone) if someone else "?")])
    return [pad(label, _CELL), *(_cell(cell, rng) for cell in cells)]


def _cell(entries: list[CheckedImage], rng: np.random.Generator) -> np.ndarray:
    """Return (128, 64, 3): one of the images, or grey if there is none or if it changed since it was checked."""
    image = np.empty((0, 0, 3), np.uint8)
    with suppress(OSError, CorruptImageError):
        if entries:
            image = fit(read_image(entries[rng.integers(len(entries))].record.path), _CELL)
    return pad(image, _CELL, _BACKGROUND)


def _caption(text: str) -> np.ndarray:
    return pad(text_picture([text], _CAPTION[1]), _CAPTION)
