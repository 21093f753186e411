"""Reads every image file once: size, hashes of bytes and pixels, difference hash, thumbnail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from ...common.inputs.regular_files import IMAGE_BYTES, read_bytes
from ..loading.decode import CorruptImageError, read_image

THUMBNAIL = (16, 8)  # (height, width)


@dataclass(frozen=True)
class ScannedFile:
    """Contents of one file: its entries of a `FileScan`. `problem` is empty if the file can be read."""

    size: tuple[int, int]
    problem: str
    content: bytes
    pixels: bytes
    appearance: int
    thumbnail: np.ndarray


@dataclass(frozen=True)
class FileScan:
    """Contents of N files.

    Args:
        paths: N files, each once.
        sizes: (N, 2) int64 height and width in pixels; 0 = unreadable.
        problems: file -> reason, for unreadable files.
        contents: N hashes of the files' bytes.
        pixels: N hashes of the decoded images; equal for a losslessly re-encoded copy.
        appearances: (N,) uint64, see `difference_hash`.
        thumbnails: (N, 16, 8, 3) uint8 RGB.
    """

    paths: tuple[str, ...]
    sizes: np.ndarray
    problems: dict[str, str]
    contents: tuple[bytes, ...]
    pixels: tuple[bytes, ...]
    appearances: np.ndarray
    thumbnails: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """(N,) bool."""
        return self.sizes[:, 0] > 0


def scan_files(paths: Sequence[str], num_threads: int = 2) -> FileScan:
    """Read the files in threads; OpenCV releases Python's lock."""
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        bar = tqdm(pool.map(scan_file, paths), "read", len(paths), unit="image", disable=None, leave=False)
        files = list(bar)
    return FileScan(
        paths=tuple(paths),
        sizes=np.array([file.size for file in files], np.int64).reshape(-1, 2),
        problems={path: file.problem for path, file in zip(paths, files) if file.problem},
        contents=tuple(file.content for file in files),
        pixels=tuple(file.pixels for file in files),
        appearances=np.array([file.appearance for file in files], np.uint64),
        thumbnails=np.array([file.thumbnail for file in files], np.uint8).reshape(-1, *THUMBNAIL, 3),
    )


def scan_file(path: str) -> ScannedFile:
    """Read one file, which may be missing or corrupt."""
    try:
        content = read_bytes(path, IMAGE_BYTES)
        image = read_image(path)
    except (ValueError, OSError) as error:  # CorruptImageError and NotRegularFileError are ValueErrors
        return ScannedFile((0, 0), _reason(path, error), b"", b"", 0, np.zeros((*THUMBNAIL, 3), np.uint8))
    height, width = image.shape[:2]
    return ScannedFile(
        (height, width),
        "",
        _digest(content),
        _digest(f"{height}x{width}".encode() + image.tobytes()),
        difference_hash(image),
        cv2.resize(image, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA),
    )


def _reason(path: str, error: Exception) -> str:
    """Return the error's message without path and advice."""
    if isinstance(error, CorruptImageError):
        return str(error).removeprefix(f"{path}: ").partition(";")[0]
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def difference_hash(image: np.ndarray) -> int:
    """Return 64 bits: whether a cell of an 8 x 9 grey thumbnail is brighter than its left neighbour.

    Small changes of size, brightness and compression flip few bits; see hackerfactor.com, "Kind of Like That", 2013.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")
