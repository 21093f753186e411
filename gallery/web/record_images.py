"""Image files of a gallery's records, as web browsers show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..storage.record_pixels import MAX_FILE_BYTES, box_of, decode_bytes, read_box
from .request_error import RequestError

SHOWN = {  # first bytes of the formats that browsers show
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


class ImageFile(NamedTuple):
    """The content of an image file and its media type, e.g. image/png."""

    content: bytes
    media_type: str


def load_image(path: Path, record: Mapping[str, Any]) -> ImageFile:
    """Return the image of a record; as PNG if browsers do not show its format, or if it is a crop of a video.

    Args:
        path: the file of the record, as the gallery locates it; never taken from a request.
        record: the row; it holds the box of a crop of a video.
    Raises:
        RequestError: 404, the file is gone, too large or not an image.
    """
    try:
        if not path.is_file():  # a pipe or a device may have no end
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
    """Return an image file as (H, W, 3) uint8 RGB.

    Raises:
        RequestError: 404, it is damaged.
    """
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
