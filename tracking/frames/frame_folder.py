"""Frames as image files: a folder such as MOTChallenge's img1/, and single pictures."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from ...common.errors import UserError
from ...datasets import read_image
from ...datasets.readers.image_files import list_images
from ..detections import VideoFrame
from .frame_source import FrameSource, check_stride, known_fps

_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")


class FrameFolder(FrameSource):
    """A folder with one image file per frame, ordered by the last number in their names: 000001.jpg, frame_12.png.

    The first file is frame 0. Where file numbers are missing, frame numbers are missing too. Without numbers in the names,
    files count in the order of their names.

    Args:
        fps: frames per second; None = frameRate of a `seqinfo.ini` in the folder or above it (MOTChallenge).
    Attributes:
        files: the file of each frame number.
        first_file_number: what the name of frame 0 states; 0 without numbers in the names.
    Raises:
        UserError: the folder has no image, or two files of the same number.
    """

    def __init__(self, folder: str | Path, fps: float | None = None) -> None:
        self.folder, self.name = Path(folder), str(folder)
        paths = list_images(self.folder)
        if not paths:
            raise UserError(f"{folder}: holds no image files; give the folder with the frames themselves (img1/)")
        self.first_file_number, self.files = _numbered(self.folder, paths)
        self.num_frames = max(self.files) + 1
        self.fps = known_fps(self.name, fps, _stated_rate(self.folder))

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield every n-th frame; see FrameSource.

        Raises:
            CorruptImageError: a file cannot be decoded.
        """
        check_stride(every, start)
        for number, path in self.files.items():
            if number >= start and number % every == 0:
                yield VideoFrame(number, number / self.fps, read_picture(path))

    def count_frames(self) -> int:
        """Return the number of frames, those of missing files included."""
        return max(self.files) + 1


class StillPicture(FrameSource):
    """One image file as a video of one frame."""

    num_frames = 1

    def __init__(self, path: str | Path) -> None:
        self.path, self.name = Path(path), str(path)
        self.files = {0: self.path}

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield the picture, unless the start lies behind it."""
        check_stride(every, start)
        if start == 0:
            yield VideoFrame(0, 0.0, read_picture(self.path))

    def count_frames(self) -> int:
        """Return 1."""
        return 1


def read_picture(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 BGR, the order of video frames; errors as `datasets.read_image`."""
    return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)


def file_number(name: str | os.PathLike[str]) -> int | None:
    """Return the last number in a file's name, its suffix left out; None if there is none.

    >>> file_number("img1/000012.jpg"), file_number("lobby_2_7.txt"), file_number("door.png")
    (12, 7, None)
    """
    match = _LAST_NUMBER.search(Path(name).stem)
    return int(match[1]) if match else None


def _numbered(folder: Path, paths: list[Path]) -> tuple[int, dict[int, Path]]:
    """Return the number of the first file, and frame number -> file in ascending order."""
    numbers = [file_number(path) for path in paths]
    if None in numbers:
        return 0, dict(enumerate(paths))
    found = sorted(zip(numbers, paths), key=lambda pair: pair[0])  # type: ignore[arg-type, return-value]
    for (number, path), (other, twin) in pairwise(found):
        if number == other:
            raise UserError(f"{folder}: {path.name} and {twin.name} are both frame {number}; keep one folder per video")
    first = found[0][0]
    return first, {number - first: path for number, path in found}  # type: ignore[operator, misc, return-value]


def _stated_rate(folder: Path) -> float:
    """Return frameRate of MOTChallenge's seqinfo.ini; 0 without one."""
    for place in (folder, folder.parent):
        if (file := place / "seqinfo.ini").is_file():
            parser = configparser.ConfigParser(interpolation=None)
            try:
                parser.read(file, encoding="utf-8")
                return parser.getfloat("Sequence", "frameRate", fallback=0.0)
            except (configparser.Error, ValueError) as error:
                raise UserError(f"{file}: not a seqinfo.ini of MOTChallenge ({error}); mend or delete it") from error
    return 0.0
