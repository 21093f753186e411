"""Bytes of an upload -> pixels, or a sentence that says why not."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from ...common.pictures import from_pil
from .request_error import RequestError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MIN_SIDE, MAX_SIDE = 8, 20_000  # pixels
REMEDY = "save it as JPEG or PNG"


def decode(content: bytes, max_pixels: int) -> np.ndarray:
    """Return an uploaded image as (H, W, 3) uint8 RGB; the first frame of an animation.

    Pillow, unlike OpenCV, gives the size before it decodes pixels and reports files that are cut short.

    Args:
        max_pixels: limit of H * W.
    Raises:
        RequestError: 400 empty or damaged, 413 too many pixels, 415 not an image of FORMATS, 422 too small.
    """
    if not content:
        raise RequestError(400, "the image is empty; choose the file again")
    if content[4:8] == b"ftyp":  # the container of HEIC, AVIF and MP4
        raise RequestError(
            415, f"HEIC, AVIF and videos are not supported; {REMEDY} (on a phone: camera format 'most compatible')"
        )
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except Exception as error:  # Pillow raises errors of many kinds for damaged files
        raise RequestError(
            415, f"this is not an image in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; {REMEDY}"
        ) from error
    with image:
        _check_size(image, max_pixels)
        try:
            image.load()
            return from_pil(image)
        except Exception as error:
            raise RequestError(400, f"the {image.format} image is damaged or cut short; {REMEDY} again") from error


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
