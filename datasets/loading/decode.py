"""Image files -> pixels: decode, check for truncation, resize."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...common.errors import UserError
from ...common.inputs.image_header import refusal
from ...common.inputs.regular_files import IMAGE_BYTES, FileTooLargeError, NotRegularFileError, read_bytes
from .preprocess import Preprocess

_SKIP = (
    ", or set DATASETS.CORRUPT skip to leave it out"  # where images of a data set are read for training and evaluation
)
_LESS = "lower DATALOADER.NUM_WORKERS, SOLVER.IMS_PER_BATCH or TEST.IMS_PER_BATCH, or set DATALOADER.CACHE off"
_FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}


class CorruptImageError(UserError):
    """An image file that is empty, cut short or not decodable."""


def read_image(path: str | Path) -> np.ndarray:
    """Return the image as (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptImageError: the file is empty, cut short, not an image, too large, or no regular file; names the file.
        MemoryError: too little memory for the decoded image.
    """
    return cv2.cvtColor(_read_bgr(path), cv2.COLOR_BGR2RGB)


def _read_bgr(path: str | Path) -> np.ndarray:
    try:
        content = read_bytes(path, IMAGE_BYTES)
    except (NotRegularFileError, FileTooLargeError) as error:
        raise CorruptImageError(str(error)) from error
    if not content or _is_cut_short(content):
        raise _corrupt(path, "is empty" if not content else "is cut short")
    if reason := refusal(content):
        raise _corrupt(path, reason)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f"{path}: not enough memory to decode the image") from error
        raise _corrupt(path, "cannot be decoded") from error
    if image is None:
        raise _corrupt(path, "is not an image that OpenCV can decode")
    return image


def _is_cut_short(content: bytes) -> bool:
    """Return whether the end of the file is missing; the decoders fill the rest with grey without an error."""
    if content.startswith(b"\xff\xd8"):  # JPEG: no end marker behind the last start of scan
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    if content.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" not in content  # end marker with checksum; some programs append data
    return False


def _corrupt(path: str | Path, what: str) -> CorruptImageError:
    return CorruptImageError(f"{path}: the image {what}; replace or delete the file")


def resize(
    image: np.ndarray, size: tuple[int, int], interpolation: str = "auto", out: np.ndarray | None = None
) -> np.ndarray:
    """Return `image` (h, w, 3) at `size` (height, width).

    Args:
        out: memory for the result, (height, width, 3) uint8; unused if the image already has that size.
    """
    if image.shape[:2] == tuple(size):
        return image
    if interpolation != "auto":
        return _resize(image, size, _FILTERS[interpolation], out)
    # area to shrink, then bicubic to enlarge, per direction
    shrunk = (min(image.shape[0], size[0]), min(image.shape[1], size[1]))
    return _resize(_resize(image, shrunk, cv2.INTER_AREA), size, cv2.INTER_CUBIC, out)


def _resize(image: np.ndarray, size: tuple[int, int], filter_: int, out: np.ndarray | None = None) -> np.ndarray:
    return image if image.shape[:2] == tuple(size) else cv2.resize(image, size[::-1], out, interpolation=filter_)


class PlaneReader:
    """Reads files as (3, H, W) uint8 RGB at the size of `preprocess`; one reader per thread.

    It reuses one buffer for resizing: fresh memory would take as long as the resizing itself.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._resized = np.empty((*preprocess.size, 3), np.uint8)

    def read(self, path: str | Path, planes: np.ndarray) -> None:
        """Fill `planes`; errors as `read_image`, with the options that help."""
        try:
            pixels = _read_bgr(path)
        except CorruptImageError as error:
            raise CorruptImageError(f"{error}{_SKIP}") from error
        except MemoryError as error:
            raise MemoryError(f"{error}; {_LESS}") from error
        image = resize(pixels, self._preprocess.size, self._preprocess.interpolation, self._resized)
        cv2.split(image, [planes[2], planes[1], planes[0]])  # five times as fast as NumPy's transpose
