"""The images that a gallery's records name; nothing else on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..storage.record_pixels import MAX_FILE_BYTES, box_of, decode_bytes, read_box
from .request_error import RequestError

SHOWN = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}  # by browsers


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
            return _as_png(read_box(path, *box))
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(404, f"{path.name} is too large to be shown")
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(404, f"{path.name} is not where the gallery's record says; has it been moved?") from error
    if media_type := _media_type(content):
        return ImageFile(content, media_type)
    return _as_png(decode_bytes(content))


def read_pixels(file: ImageFile) -> np.ndarray:
    """Return a served image as (H, W, 3) uint8 RGB."""
    pixels = decode_bytes(file.content)
    if pixels is None:
        raise RequestError(404, "the image of this record is damaged")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _media_type(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SHOWN.items() if content.startswith(start)), None)


def _as_png(pixels: np.ndarray | None) -> ImageFile:
    if pixels is None or not pixels.size:
        raise RequestError(404, "the file of this record is not an image that can be shown")
    return ImageFile(cv2.imencode(".png", pixels)[1].tobytes(), "image/png")
