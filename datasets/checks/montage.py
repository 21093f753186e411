"""A sheet of random images: a row per person, a column per camera."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...common.files import write_atomically
from ...common.pictures import check_picture_name, encode, fit, grid, pad, text_picture, wrapped
from ..loading.decode import CorruptImageError, read_image
from .entries import CheckedImage, Listing

_CELL = (128, 64)  # (height, width) in pixels
_LINE = 15  # height of a line of text
_WIDEST = 240  # of the column with the names of the people
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
    chosen = [(side, [entries.get(camera, []) for camera in cameras]) for side, entries in _choose(cells, rng)]
    people = [text_picture([side, *_name_lines(listing, shown)]) for side, shown in chosen]
    width = max([_CELL[1], *(person.shape[1] for person in people)])
    header = [pad(_caption(""), (_LINE, width)), *(_caption(name) for name in names)]
    rows = [
        [pad(person, (_CELL[0], width)), *(_cell(cell, rng) for cell in shown)]
        for person, (_, shown) in zip(people, chosen, strict=True)
    ]
    return grid([header, *rows])[..., ::-1]


def write_montage(file: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR as PNG, or as the file's suffix says; an interruption leaves an earlier file intact."""
    content = encode(picture[..., ::-1], check_picture_name("--montage", file))
    write_atomically(file, lambda temporary: temporary.write_bytes(content))


def check_name(file: Path) -> None:
    """Raise ValueError unless OpenCV can write an image file of that name."""
    check_picture_name("--montage", file)


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


def _name_lines(listing: Listing, cells: list[list[CheckedImage]]) -> list[str]:
    """Return the name of the person of a row, on one line or more; names of different people may differ in any character."""
    someone = next((cell[0] for cell in cells if cell), None)  # None: seen only by cameras that are not shown
    return wrapped(listing.person(someone), _WIDEST, most_lines=4) if someone else ["?"]


def _cell(entries: list[CheckedImage], rng: np.random.Generator) -> np.ndarray:
    """Return (128, 64, 3): one of the images, or grey if there is none or if it changed since it was checked."""
    image = np.empty((0, 0, 3), np.uint8)
    with suppress(OSError, CorruptImageError):
        if entries:
            image = fit(read_image(entries[rng.integers(len(entries))].record.path), _CELL)
    return pad(image, _CELL, _BACKGROUND)


def _caption(text: str) -> np.ndarray:
    picture = text_picture(wrapped(text, _CELL[1], most_lines=3), _CELL[1])
    return pad(picture, (max(_LINE, picture.shape[0]), _CELL[1]))
