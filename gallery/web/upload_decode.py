"""Bytes from strangers -> pixels, or a sentence that says why not."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from .request_error import RequestError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MIN_SIDE, MAX_SIDE = 8, 20_000  # pixels
REMEDY = "save it as JPEG or PNG"


def decode(content: bytes, max_pixels: int) -> np.ndarray:
    """Return an uploaded image as (H, W, 3) uint8 RGB, as OpenCV reads its file: upright, transparency ignored.

    The size is checked before pixels are decoded. Of a moving picture it is the first frame; 16 bits become their upper 8.

    Args:
        max_pixels: H * W allowed.
    Raises:
        RequestError: 400 empty or damaged, 413 too many pixels, 415 not an image that is read here, 422 too small to show anybody.
    """
    if not content:
        raise RequestError(400, "the image is empty; choose the file again")
    _refuse_heic(content)
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead to
        raise RequestError(
            415, f"this is not an image in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; {REMEDY}"
        ) from error
    with image:
        _check_size(image, max_pixels)
        try:
            return _pixels(image)
        except Exception as error:
            raise RequestError(400, f"the {image.format} image is damaged or cut short; {REMEDY} again") from error


def _refuse_heic(content: bytes) -> None:
    if content[4:8] == b"ftyp":  # the container of HEIC, AVIF and of films
        raise RequestError(
            415, f"HEIC, AVIF and films are not read here; {REMEDY} (phones do so when asked for 'most compatible')"
        )


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
            422, f"an image of {width} x {height} pixels shows nobody; send one of at least {MIN_SIDE} x {MIN_SIDE}"
        )


def _pixels(image: Image.Image) -> np.ndarray:
    image.load()
    with suppress(Exception):  # damaged EXIF data around a sound image: take it as it lies
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip
        return np.repeat((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
