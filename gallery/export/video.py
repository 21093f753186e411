"""Crops from videos for an export: boxes of frames, read in order because seeking lands on another frame in many files."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ...common.inputs.regular_files import check_video
from ...common.pictures import cut_box
from ...datasets import CorruptImageError


class Box(NamedTuple):
    """Upper left corner and size, in pixels; may extend beyond the frame."""

    x: float
    y: float
    width: float
    height: float


class VideoReader:
    """Reads frames in ascending order; an earlier frame opens the video again."""

    def __init__(self) -> None:
        self._path = ""
        self._capture: cv2.VideoCapture | None = None
        self._frame = -1
        self._pixels: np.ndarray | None = None

    def crop(self, path: str, frame: int, box: Box) -> np.ndarray:
        """Return the part of the box inside the frame, (H, W, 3) uint8 RGB.

        Raises:
            FileNotFoundError: no such video.
            CorruptImageError: it cannot be decoded, ends before the frame, or the box lies outside.
        """
        pixels = self._read(path, frame)
        crop = cut_box(pixels, *box)
        if not crop.size:
            height, width = pixels.shape[:2]
            raise CorruptImageError(
                f"{path}, frame {frame}: the box {tuple(box)} lies outside the frame of {width} x {height} pixels"
            )
        return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)

    def _read(self, path: str, frame: int) -> np.ndarray:
        """Return the frame, (H, W, 3) uint8 BGR; it is kept for the next box."""
        if path != self._path or frame < self._frame:
            self._open(path)
        if frame != self._frame:
            self._pixels = self._advance(frame)
        if self._pixels is None:
            raise CorruptImageError(f"{path}: has no frame {frame}, counted from 0, that can be decoded")
        return self._pixels

    def _open(self, path: str) -> None:
        try:
            check_video(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such video; paths start at the CSV file's folder") from None
        except ValueError as error:
            raise CorruptImageError(str(error)) from error
        self.close()
        self._capture, self._path = cv2.VideoCapture(path), path

    def _advance(self, frame: int) -> np.ndarray | None:
        assert self._capture is not None  # for the type checker: `_open` came first
        while self._frame < frame:
            if not self._capture.grab():
                self._frame = frame  # missing; reading an earlier frame opens the video again
                return None
            self._frame += 1
        there, pixels = self._capture.retrieve()
        return pixels if there else None

    def close(self) -> None:
        """Close the video."""
        if self._capture is not None:
            self._capture.release()
        self._path, self._capture, self._frame, self._pixels = "", None, -1, None
