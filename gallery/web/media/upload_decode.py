"""Bytes of an upload -> pixels, or a sentence that says why not.

The work is bounded before it starts: by the pixels that the header names, and by the scans of a progressive JPEG, each of
which costs as much as a whole image. What remains is bounded while it runs, by the time that the thread has used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from ....common.pictures import from_pil
from ..request_error import RequestError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
ROW_FORMATS = (*FORMATS, "TIFF")  # of the gallery's own files
MIN_SIDE, MAX_SIDE = 8, 20_000  # pixels
MAX_SCANS, MAX_SEGMENTS = 50, 4000  # of a JPEG; encoders write up to 15 scans
OPEN_SECONDS, SECONDS_PER_PIXEL = 0.5, 4e-7  # of a processor; a JPEG of 25 million pixels takes 0.3 s
REMEDY = "save it as JPEG or PNG"
JPEG = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE, WITHOUT_LENGTH = 0xDA, 0xD9, (0xD8, 0x01)  # markers of a JPEG
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the others belong to the compressed data


def pixels_of(content: bytes, max_pixels: int) -> int:
    """Return H * W of an uploaded image, once it may be decoded; errors as `decode`, except for damage."""
    with _opened(content, max_pixels) as image:
        return image.size[0] * image.size[1]


def decode(content: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Return an uploaded image as (H, W, 3) uint8 RGB; the first frame of an animation.

    Pillow, unlike OpenCV, gives the size before it decodes pixels and reports files that are cut short.

    Args:
        max_pixels: limit of H * W.
        formats: accepted ones, by Pillow's names.
    Raises:
        RequestError: 400 empty or damaged, 413 too many pixels, 415 not an image of FORMATS, 422 too small or too much work.
    """
    with _opened(content, max_pixels, formats) as image:
        try:
            image.load()
            return from_pil(image)
        except RequestError:
            raise
        except Exception as error:  # Pillow raises errors of many kinds for damaged files
            raise RequestError(400, f"the {image.format} image is damaged or cut short; {REMEDY} again") from error


@contextmanager
def _opened(content: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Yield the image, whose header has been read and whose size is accepted."""
    if not content:
        raise RequestError(400, "the image is empty; choose the file again")
    if content[4:8] == b"ftyp":  # the container of HEIC, AVIF and MP4
        raise RequestError(
            415, f"HEIC, AVIF and videos are not supported; {REMEDY} (on a phone: camera format 'most compatible')"
        )
    if content.startswith(JPEG):
        _check_scans(content)
    file = _TimedFile(content)
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            415, f"this is not an image in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; {REMEDY}"
        ) from error
    with image:
        _check_size(image, max_pixels)
        file.extend(image.size[0] * image.size[1] * SECONDS_PER_PIXEL)
        yield image


class _TimedFile(BytesIO):
    """A file in memory that cannot be read any more when the thread has used its time; Pillow reads 64 kB at once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._end = time.thread_time() + OPEN_SECONDS

    def extend(self, seconds: float) -> None:
        """Permit more time."""
        self._end += seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; a `RequestError` after the end of the time."""
        if time.thread_time() > self._end:
            raise RequestError(422, f"decoding this image takes too long; {REMEDY} again")
        return super().read(size)


def _check_scans(content: bytes) -> None:
    """Raise RequestError, 422, if a JPEG has more than MAX_SCANS scans or MAX_SEGMENTS segments.

    Like the decoder, it skips what is no marker and stops at the first end of image.
    """
    place = num_scans = 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(content, place)
        if found is None or (marker := found[0][1]) == END_OF_IMAGE:
            return
        place = found.end()
        if marker in WITHOUT_LENGTH:
            continue
        num_scans += marker == START_OF_SCAN
        if num_scans > MAX_SCANS:
            raise RequestError(422, f"the JPEG has more than {MAX_SCANS} scans; {REMEDY} again")
        place += max(2, int.from_bytes(content[place : place + 2], "big"))
    raise RequestError(422, f"the JPEG has more than {MAX_SEGMENTS} segments; {REMEDY} again")


def _too_large(max_pixels: int) -> RequestError:
    return RequestError(
        413, f"the image has more than {max_pixels / 1e6:g} million pixels; send the crop of the person alone"
    )


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise _too_large(max_pixels)
    if min(width, height) < MIN_SIDE:
        raise RequestError(
            422, f"an image of {width} x {height} pixels is too small; send one of at least {MIN_SIDE} x {MIN_SIDE}"
        )
