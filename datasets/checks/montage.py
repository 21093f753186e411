"""A sheet of random pictures: a row per person, a column per camera."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from ...common.errors import UserError
from .entries import CheckedImage, Listing

_CELL = (128, 64)  # (height, width) in pixels
_TEXT = 16  # pixels for a line of text
_PEOPLE, _CAMERAS = 12, 16
_GREY, _BLACK = 200, (0, 0, 0)


def draw_montage(listing: Listing, unreadable: set[str], seed: int = 0) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR: up to 12 people, drawn from those seen by two cameras or more while there are any.

    Half of the rows are training people, half test people, where there are both. An empty cell: never seen by this camera.
    """
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, int], dict[int, list[CheckedImage]]] = defaultdict(lambda: defaultdict(list))
    for entry in listing.entries:
        if entry.record.path not in unreadable:
            side = "test" if entry.is_test else "train"
            cells[side, entry.record.pid][entry.record.camid].append(entry)
    cameras = range(min(len(listing.data.camera_names), _CAMERAS))
    rows = [
        _row(listing, side, [entries.get(camera, []) for camera in cameras], rng)
        for side, entries in _choose(cells, rng)
    ]
    header = [_caption(listing.data.camera_names[camera].rsplit("/")[-1], _CELL[1]) for camera in cameras]
    top = np.hstack([_caption("", _CELL[1]), *header])
    return np.vstack([top, *rows])


def write_montage(file: Path, picture: np.ndarray) -> None:
    """Write a PNG (or what the file's ending says) to a neighbour first, so that an interruption leaves no half file.

    Raises:
        ValueError: OpenCV cannot write such a file.
    """
    check_name(file)
    started = file.with_name(f".{file.name}.partial")
    started.write_bytes(cv2.imencode(file.suffix or ".png", picture)[1].tobytes())
    started.replace(file)


def check_name(file: Path) -> None:
    """Raise ValueError unless OpenCV can write a picture of that name."""
    try:
        done, _ = cv2.imencode(file.suffix or ".png", np.zeros((1, 1, 3), np.uint8))
    except cv2.error:
        done = False
    if not done:
        raise UserError(
            f"--montage: cannot write a picture called {str(file)!r}; choose a name that ends in .png or .jpg"
        )


def _choose(
    cells: dict[tuple[str, int], dict[int, list[CheckedImage]]], rng: np.random.Generator
) -> list[tuple[str, dict[int, list[CheckedImage]]]]:
    """Return the rows' people: those with two cameras or more first, in random order."""
    chosen = []
    sides = sorted({side for side, _ in cells}, reverse=True)  # train, then test
    for side in sides:
        people = [entries for (its_side, _), entries in sorted(cells.items()) if its_side == side]
        order = [people[place] for place in rng.permutation(len(people))]
        order.sort(key=lambda entries: len(entries) < 2)  # stable: the order by chance remains
        chosen += [(side, entries) for entries in order[: _PEOPLE // len(sides)]]
    return chosen


def _row(listing: Listing, side: str, cells: list[list[CheckedImage]], rng: np.random.Generator) -> np.ndarray:
    someone = next((cell[0] for cell in cells if cell), None)
    name = listing.person(someone) if someone else "?"
    label = np.full((*_CELL, 3), 255, np.uint8)
    label[:_TEXT] = _caption(side, _CELL[1])
    label[_TEXT : 2 * _TEXT] = _caption(name, _CELL[1])
    return np.hstack([label, *(_cell(cell, rng) for cell in cells)])


def _cell(entries: list[CheckedImage], rng: np.random.Generator) -> np.ndarray:
    """Return (128, 64, 3): one of the pictures, its shape kept, on grey."""
    cell = np.full((*_CELL, 3), _GREY, np.uint8)
    if not entries:
        return cell
    path = entries[rng.integers(len(entries))].record.path
    picture = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:  # changed since it was checked
        return cell
    scale = min(_CELL[0] / picture.shape[0], _CELL[1] / picture.shape[1])
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    cell[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return cell


def _caption(text: str, width: int) -> np.ndarray:
    """Return (16, width, 3) with the end of `text`, which tells names apart."""
    line = np.full((_TEXT, width, 3), 255, np.uint8)
    cv2.putText(line, text[-10:], (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.33, _BLACK, 1, cv2.LINE_AA)
    return line
