"""Crops out of videos and pictures: frames are read in order, because seeking lands on another frame in many files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import digest, write_atomically
from ...common.inputs.regular_files import check_video
from ...common.pictures import cut_box, encode
from ..loading.decode import CorruptImageError, read_image

STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


class Box(NamedTuple):
    """Upper left corner and size, in pixels; may extend beyond the frame."""

    x: float
    y: float
    width: float
    height: float


def is_still(path: str) -> bool:
    """Return whether a file is a picture, by its suffix."""
    return path.lower().endswith(STILLS)


def cut_still(path: str, box: Box) -> np.ndarray:
    """Return the part of a picture inside a box, (h, w, 3) uint8 RGB.

    Raises:
        FileNotFoundError, CorruptImageError: the file cannot be read, or the box lies outside.
    """
    return _inside(read_image(path), box, path)


def _inside(pixels: np.ndarray, box: Box, where: str) -> np.ndarray:
    crop = cut_box(pixels, *box)
    if not crop.size:
        height, width = pixels.shape[:2]
        raise CorruptImageError(
            f"{where}: the box {tuple(box)} lies outside the {width} x {height} pixels of the picture"
        )
    return crop


class VideoReader:
    """Reads frames in ascending order; an earlier frame opens the video again."""

    def __init__(self) -> None:
        self._path = ""
        self._capture: cv2.VideoCapture | None = None
        self._frame = -1
        self._count = 0
        self._pixels: np.ndarray | None = None

    def crop(self, path: str, frame: int, box: Box) -> np.ndarray:
        """Return the part of the box inside the frame, (H, W, 3) uint8 RGB.

        Raises:
            FileNotFoundError: no such video.
            CorruptImageError: it cannot be decoded, ends before the frame, or the box lies outside.
        """
        return cv2.cvtColor(_inside(self._read(path, frame), box, f"{path}, frame {frame}"), cv2.COLOR_BGR2RGB)

    def _read(self, path: str, frame: int) -> np.ndarray:
        """Return the frame, (H, W, 3) uint8 BGR; it is kept for the next box."""
        if path != self._path or frame < self._frame:
            self._open(path)
        if frame != self._frame:
            self._pixels = self._advance(frame)
        if self._pixels is None:
            raise CorruptImageError(
                f"{path}: has no frame {frame} that can be decoded; counted from 0, it has {self._count} frames"
            )
        return self._pixels

    def _open(self, path: str) -> None:
        try:
            check_video(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such video; paths start at the CSV file's folder") from None
        except UserError as error:
            raise CorruptImageError(str(error)) from error
        self.close()
        self._capture, self._path = cv2.VideoCapture(path), path

    def _advance(self, frame: int) -> np.ndarray | None:
        assert self._capture is not None  # for the type checker: `_open` came first
        while self._frame < frame:
            if not self._capture.grab():
                self._count = self._frame + 1
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


class BoxPlace(NamedTuple):
    """A box in a frame of a video, or in a picture (frame None)."""

    path: str
    frame: int | None
    box: Box


def cut_crops(places: Sequence[BoxPlace], folder: Path) -> list[str]:
    """Cut boxes out of their videos and pictures into PNG files, each once; return the file of each box.

    Training reads its images in any order, which videos do not allow. The files lie in a folder per video, whose name changes
    with the video's size and date; those that are there already are used. Other processes wait meanwhile.

    Raises:
        FileNotFoundError, CorruptImageError: a video or picture cannot be read, or has no such frame or box.
        UserError: the folder cannot be written.
    """
    names: dict[str, str] = {path: _folder_name(path) for path in dict.fromkeys(place.path for place in places)}
    files = [folder / names[place.path] / _file_name(place) for place in places]
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            todo = {file: place for file, place in zip(files, places, strict=True) if not file.is_file()}
            _cut(todo)
    except PermissionError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), crops are kept there; copy the CSV elsewhere"
        ) from error
    return [str(file) for file in files]


def _cut(todo: dict[Path, BoxPlace]) -> None:
    """Write the crops, in the order of videos and frames."""
    reader = VideoReader()
    order = sorted(todo.items(), key=lambda item: (item[1].path, item[1].frame or 0))
    for file, (path, frame, box) in tqdm(order, "crops", unit="crop", disable=None, leave=False):
        pixels = cut_still(path, box) if frame is None else reader.crop(path, frame, box)
        file.parent.mkdir(exist_ok=True)
        content = encode(pixels, ".png")
        write_atomically(file, lambda temporary, content=content: temporary.write_bytes(content))  # type: ignore[misc]
    reader.close()


def _folder_name(path: str) -> str:
    found = Path(path).stat()
    mark = digest([repr((str(Path(path).absolute()), found.st_size, found.st_mtime_ns)).encode()])
    return f"{Path(path).stem}-{mark.removeprefix('sha256:')[:8]}"


def _file_name(place: BoxPlace) -> str:
    frame = "" if place.frame is None else f"{place.frame:06d}_"
    return frame + "_".join(f"{value:g}" for value in place.box) + ".png"
