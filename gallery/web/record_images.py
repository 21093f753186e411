"""The images that a gallery's records name; nothing else on the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from .request_error import RequestError

MAX_FILE_BYTES = 100_000_000
SHOWN = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}  # by browsers
BOX = ("frame", "x", "y", "width", "height")  # columns of a crop from a video, as tools/export.py writes them
STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")  # these files are the crops themselves


class ImageFile(NamedTuple):
    """What is sent to a browser."""

    content: bytes
    media_type: str


def load_image(path: Path, record: Mapping[str, Any]) -> ImageFile:
    """Return the image of a record; one that browsers do not show, or a crop of a video, as PNG.

    Args:
        path: where the gallery says that the record's file is; never from a request.
        record: the row, for the box of a video's crop.
    Raises:
        RequestError: 404 the file is gone or is not an image.
    """
    try:
        if not path.is_file():  # no pipe or device either, which could be read without an end
            raise FileNotFoundError(path)
        if box := box_of(path, record):
            return _as_png(_crop(path, *box))
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(404, f"{path.name} is too large to be shown")
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(404, f"{path.name} is not where the gallery's record says; has it been moved?") from error
    if media_type := _media_type(content):
        return ImageFile(content, media_type)
    return _as_png(_decoded(content))


def box_of(path: Path, record: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return frame, x, y, width and height of a crop of a video; None if the file is an image, or they are no numbers."""
    values = [record.get(name) for name in BOX]
    if path.suffix.lower() in STILLS or not all(map(_is_number, values)):
        return None
    return tuple(map(float, values))  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_pixels(file: ImageFile) -> np.ndarray:
    """Return a served image as (H, W, 3) uint8 RGB."""
    pixels = _decoded(file.content)
    if pixels is None:
        raise RequestError(404, "the image of this record is damaged")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _media_type(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SHOWN.items() if content.startswith(start)), None)


def _decoded(content: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        return None


def _as_png(pixels: np.ndarray | None) -> ImageFile:
    if pixels is None or not pixels.size:
        raise RequestError(404, "the file of this record is not an image that can be shown")
    return ImageFile(cv2.imencode(".png", pixels)[1].tobytes(), "image/png")


def _crop(path: Path, frame: float, x: float, y: float, width: float, height: float) -> np.ndarray | None:
    """Return the box (pixels) of a video's frame, counted from 0, BGR; None if it has no such frame."""
    video = cv2.VideoCapture(str(path))
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)  # in a few codecs a frame beside it: good enough to look at
        there, pixels = video.read()
    finally:
        video.release()
    bottom, right = max(0, round(y + height)), max(0, round(x + width))
    return pixels[max(0, round(y)) : bottom, max(0, round(x)) : right] if there else None
