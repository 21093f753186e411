"""Pixels of a record: an image file, or a box of a video frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

MAX_FILE_BYTES = 100_000_000  # of an image file
STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")  # these files are crops themselves
BOX_COLUMNS = ("frame", "x", "y", "width", "height")  # columns of a crop from a video, written by tools/export.py


class Box(NamedTuple):
    """Upper left corner and size, in pixels; may extend beyond the frame."""

    x: float
    y: float
    width: float
    height: float


def cut_box(frame: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of a frame (H, W, 3) inside the box, a view; empty if the box lies outside."""
    left, top = max(0, round(box.x)), max(0, round(box.y))
    right, bottom = max(0, round(box.x + box.width)), max(0, round(box.y + box.height))
    return frame[top:bottom, left:right]


def box_of(path: Path, record: Mapping[str, Any]) -> tuple[float, Box] | None:
    """Return frame and box of a crop from a video; None if the file is an image, or they are not finite numbers."""
    values = [record.get(name) for name in BOX_COLUMNS]
    if path.suffix.lower() in STILLS or not all(map(_is_number, values)):
        return None
    frame, *box = map(float, values)  # type: ignore[arg-type]
    return frame, Box(*box)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_box(path: Path, frame: float, box: Box) -> np.ndarray | None:
    """Return the box of a video frame, counted from 0, (H, W, 3) uint8 BGR; None if there is no such frame.

    Seeks, so a few codecs return a neighbouring frame: good enough to look at. An export reads all frames in order instead.
    """
    video = cv2.VideoCapture(str(path))
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        is_there, pixels = video.read()
    finally:
        video.release()
    return cut_box(pixels, box) if is_there else None


def decode_bytes(content: bytes) -> np.ndarray | None:
    """Return an encoded image as (H, W, 3) uint8 BGR; None if it is damaged."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        return None


def record_pixels(path: Path, record: Mapping[str, Any]) -> np.ndarray | None:
    """Return a record's crop (H, W, 3) uint8 RGB; None if it cannot be read.

    Args:
        path: location of the record's file.
        record: the record, for the box of a crop from a video.
    """
    try:
        if not path.is_file():  # excludes pipes and devices, which may have no end
            return None
        if found := box_of(path, record):
            pixels = read_box(path, *found)
        else:
            pixels = decode_bytes(path.read_bytes()) if path.stat().st_size <= MAX_FILE_BYTES else None
    except OSError:
        return None
    return None if pixels is None or not pixels.size else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
