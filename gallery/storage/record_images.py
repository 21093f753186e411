"""Image files of a gallery's records, for web browsers and contact sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...common.errors import UserError
from ...common.inputs.regular_files import FileTooLargeError, check_video, read_bytes
from ...common.pictures import cut_box, decode, encode

MAX_FILE_BYTES = 100_000_000
SHOWN = {  # first bytes of the files that browsers show
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}
BOX = ("frame", "x", "y", "width", "height")  # columns of a crop from a video; without `frame`, from a picture
STILLS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


class RecordImageError(UserError):
    """The image of a record is missing, too large or damaged."""


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
        RecordImageError: the file is gone, too large or not an image.
    """
    try:
        if box := box_of(path, record):
            check_video(path)
            return _as_png(_crop(path, *box))
        content = read_bytes(path, MAX_FILE_BYTES)
    except FileTooLargeError as error:
        raise RecordImageError(f"{path.name} is too large to be shown") from error
    except (OSError, ValueError) as error:
        raise RecordImageError(f"{path.name} is not where the gallery's record says; has it been moved?") from error
    if media_type := _media_type(content):
        return ImageFile(content, media_type)
    return _as_png(decode(content))


def box_of(path: Path, record: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return frame, x, y, width and height of a crop of a video or a picture; None if the file is the crop itself.

    A picture is the crop itself if the record has a frame, that of the video from which it was cut; unless this "video" is
    the picture or its folder. The frame of a picture is -1.
    """
    frame, *values = (record.get(name) for name in BOX)
    if not all(map(_is_number, values)):
        return None
    if path.suffix.lower() in STILLS:
        if _is_number(frame) and str(record.get("video")) not in (str(path), str(path.parent)):
            return None
        frame = -1
    return tuple(map(float, (frame, *values))) if _is_number(frame) else None  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_pixels(file: ImageFile) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 RGB.

    Raises:
        RecordImageError: it is damaged.
    """
    pixels = decode(file.content)
    if pixels is None:
        raise RecordImageError("the image of this record is damaged")
    return pixels


def _media_type(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SHOWN.items() if content.startswith(start)), None)


def _as_png(pixels: np.ndarray | None) -> ImageFile:
    if pixels is None or not pixels.size:
        raise RecordImageError("the file of this record is not an image that can be shown")
    return ImageFile(encode(pixels), "image/png")


def _crop(path: Path, frame: float, x: float, y: float, width: float, height: float) -> np.ndarray | None:
    """Return the box (pixels) of a picture, or of a video's frame, counted from 0; None if the video has no such frame."""
    pixels = decode(read_bytes(path, MAX_FILE_BYTES)) if frame < 0 else _frame(path, int(frame))
    return cut_box(pixels, x, y, width, height) if pixels is not None else None


def _frame(path: Path, number: int) -> np.ndarray | None:
    video = cv2.VideoCapture(str(path))
    try:
        video.set(
            cv2.CAP_PROP_POS_FRAMES, number
        )  # with a few codecs a neighbouring frame: fast, and enough to look at
        if round(video.get(cv2.CAP_PROP_POS_FRAMES)) != number:  # raw streams have no index
            video.release()
            video.open(str(path))
            while number > 0 and video.grab():
                number -= 1
        is_read, pixels = video.read()
    finally:
        video.release()
    return pixels[..., ::-1] if is_read else None  # BGR -> RGB
