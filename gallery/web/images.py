"""The images that a gallery's records name; nothing else on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from .refused import Refused

MAX_FILE_BYTES = 100_000_000
SHOWN = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}  # by browsers
BOX = ("frame", "x", "y", "width", "height")  # columns of a crop from a video, as tools/export.py writes them


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
        Refused: 404 the file is gone or is not an image.
    """
    try:
        if all(record.get(name) is not None for name in BOX):
            return _as_png(_crop(path, *(float(record[name]) for name in BOX)))
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Refused(404, f"{path.name} is too large to be shown")
        content = path.read_bytes()
    except OSError as error:
        raise Refused(404, f"{path.name} is not where the gallery's record says; has it been moved?") from error
    if media_type := _media_type(content):
        return ImageFile(content, media_type)
    return _as_png(_decoded(content))


def read_pixels(file: ImageFile) -> np.ndarray:
    """Return a served image as (H, W, 3) uint8 RGB."""
    pixels = _decoded(file.content)
    if pixels is None:
        raise Refused(404, "the image of this record is damaged")
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
        raise Refused(404, "the file of this record is not an image that can be shown")
    return ImageFile(cv2.imencode(".png", pixels)[1].tobytes(), "image/png")


def _crop(path: Path, frame: float, x: float, y: float, width: float, height: float) -> np.ndarray | None:
    """Return the box (pixels) of a video's frame, counted from 0, BGR; None if it has no such frame."""
    if not path.is_file():
        raise FileNotFoundError(path)
    video = cv2.VideoCapture(str(path))
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)  # in a few codecs a frame beside it: good enough to look at
        there, pixels = video.read()
    finally:
        video.release()
    return pixels[max(0, round(y)) : round(y + height), max(0, round(x)) : round(x + width)] if there else None
