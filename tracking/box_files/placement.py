"""Boxes from elsewhere, laid over the video or the pictures that they belong to."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ...common.errors import UserError
from ...datasets.readers.image_files import EXTENSIONS
from ..detections import Detections, VideoFrame
from ..frames import FrameFolder, FrameSource, StillPicture
from ..frames.frame_folder import file_number, read_picture
from .given_boxes import GivenBoxes


class BoxesOfVideo:
    """The boxes of a file by the frames of one video; in a pass over the video it stands where a detector would.

    Args:
        given: of the file.
        source: the video, or a folder of frames.
        first_frame: number that the file gives to the first frame; None = as its format defines, else 0 or as found.
    Raises:
        UserError: the frames of the file do not fit the video; names both counts.
    """

    def __init__(self, given: GivenBoxes, source: FrameSource, first_frame: int | None = None) -> None:
        self._source = source
        self._given = of_video(given, source.name)
        self._frames = frame_numbers(self._given, source, first_frame)
        self._rows: dict[int, list[int]] = defaultdict(list)
        if self._frames is None:
            check_times(self._given, source)
        else:
            check_fits(self._given, self._frames, source)
            for row, number in enumerate(self._frames.tolist()):
                self._rows[number].append(row)

    def stream(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, Detections]]:
        """Yield each frame with its boxes, in pixels.

        Raises:
            UserError: the boxes refer to frames of another size, or the video ends before the last box; names both.
        """
        last = -1
        for frame in frames:
            if last < 0:
                check_size(self._given, frame)
            last = frame.number
            yield frame, self.detections(frame)
        if self._frames is not None and len(self._frames) and last < self._frames.max():
            check_fits(self._given, self._frames, self._source, exact=True)

    def detections(self, frame: VideoFrame) -> Detections:
        """Return the boxes of one frame, in pixels."""
        rows = self._at_time(frame.seconds) if self._frames is None else self._rows.get(frame.number, ())
        return in_pixels(self._given, np.asarray(rows, np.int64), frame.pixels.shape[:2])

    def last_frames(self) -> dict[int, int]:
        """Return the number of the last frame of each track; empty if the file states no tracks."""
        tracks, frames = self._given.detections.tracks, self._frames
        if frames is None and self._given.seconds is not None:
            frames = np.ceil(self._given.seconds * self._source.fps).astype(np.int64)
        last: dict[int, int] = {}
        for track, frame in zip(tracks.tolist(), [] if frames is None else frames.tolist()):
            if track >= 0:
                last[track] = max(frame, last.get(track, frame))
        return last

    def _at_time(self, seconds: float) -> np.ndarray:
        """Return the rows whose time is closer to this frame than half the time between frames."""
        assert self._given.seconds is not None  # for the type checker
        half = 0.5 / self._source.fps
        away = self._given.seconds - seconds
        return np.flatnonzero((away >= -half) & (away < half))


def boxes_of_pictures(given: GivenBoxes, folder: Path | None = None) -> Iterator[tuple[Path, Detections]]:
    """Yield each picture that has boxes, with its boxes in pixels, in the order of the file.

    Args:
        folder: where relative paths start; None = at the file's own folder.
    Raises:
        UserError: the file names no pictures.
        FileNotFoundError: some are missing; raised before the first one.
    """
    if given.pictures is None:
        raise UserError(f"{given.file}: its boxes lie in frames of a video, not in pictures; give the video as well")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(given.pictures):
        rows[name].append(row)
    paths = _find_pictures(given, list(rows), folder)
    for name, path in paths.items():
        size = read_picture(path).shape[:2] if given.fractions else (0, 0)
        yield path, in_pixels(given, np.array(rows[name]), (size[0], size[1]))


def in_pixels(given: GivenBoxes, rows: np.ndarray, size: tuple[int, ...]) -> Detections:
    """Return some boxes in pixels of a picture of `size` (height, width)."""
    found = given.detections.select(rows)
    if not given.fractions:
        return found
    scale = np.array([size[1], size[0]] * 2, np.float32)
    return Detections(found.boxes * scale, found.scores, found.labels, found.tracks)


def of_video(given: GivenBoxes, name: str) -> GivenBoxes:
    """Return the boxes of one video or folder of frames; all if the file does not state to which one they belong.

    Raises:
        UserError: the file names videos, or folders of pictures, but not this one.
    """
    if given.videos is not None:
        own = np.array([Path(video).name == Path(name).name for video in given.videos], bool)
        stated = sorted(set(given.videos))
    elif given.pictures is not None and len({os.path.dirname(picture) for picture in given.pictures}) > 1:
        own = np.array([_lies_in(picture, Path(name)) for picture in given.pictures], bool)
        stated = sorted({os.path.dirname(picture) for picture in given.pictures})
    else:
        return given
    if not own.any():
        raise UserError(f"{given.file}: holds no box of {Path(name).name}, but of {', '.join(stated[:5])}")
    return given.select(own)


def _lies_in(picture: str, place: Path) -> bool:
    """Return whether the folder of a picture is the end of this folder's path, or has the name of this video.

    >>> _lies_in("MOT17-02/img1/000001.jpg", Path("/data/MOT17-02/img1")), _lies_in("hall/000001.jpg", Path("hall.mp4"))
    (True, True)
    """
    parts = Path(picture).parent.parts
    if place.suffix:  # a video
        return parts[-1:] == (place.stem,)
    return place.absolute().parts[-len(parts) :] == parts


def frame_numbers(given: GivenBoxes, source: FrameSource, first_frame: int | None) -> np.ndarray | None:
    """Return the frame, counted from 0, of each of N boxes; None if the file states times.

    Raises:
        UserError: pictures are not in the folder of frames, or it is not clear which of them is the first frame.
    """
    if given.frames is not None:
        return given.frames - (first_frame if first_frame is not None else given.first_frame or 0)
    if given.pictures is None:
        return None
    if isinstance(source, (FrameFolder, StillPicture)):
        return _by_name(given, source)
    numbers = {name: file_number(name) for name in {*given.pictures, *(given.all_pictures or ())}}
    if bad := sorted(name for name, number in numbers.items() if number is None):
        raise UserError(f"{given.file}: {bad[0]!r} has no number, so its frame in {source.name} is unknown")
    first = _first_of_names(given, source, numbers) if first_frame is None else first_frame
    return np.array([numbers[name] for name in given.pictures], np.int64) - first


def _first_of_names(given: GivenBoxes, source: FrameSource, numbers: dict[str, int | None]) -> int:
    """Return the number that the names of pictures give to the first frame."""
    lowest = min(number for number in numbers.values() if number is not None) if numbers else 0
    if lowest == 0:
        return 0
    stem = Path(source.name).stem
    if all(Path(name).stem == f"{stem}_{number}" for name, number in numbers.items()):
        return 1  # Ultralytics' files of a video: VIDEO_FRAME.txt, from 1
    if lowest == 1 and not source.live and len(numbers) == source.count_frames():
        return 1
    raise UserError(
        f"{given.file}: names {len(numbers)} frames, from number {lowest} on; state with --first-frame whether the video's first "
        "frame is 0 or 1"
    )


def _by_name(given: GivenBoxes, folder: FrameFolder | StillPicture) -> np.ndarray:
    """Return the frame of each box by the name of its picture, with or without suffix."""
    assert given.pictures is not None  # for the type checker
    numbers = {path.name: number for number, path in folder.files.items()}
    numbers |= {path.stem: number for number, path in folder.files.items()}
    names = {name: os.path.basename(name) for name in dict.fromkeys(given.pictures)}
    missing = [name for name, base in names.items() if base not in numbers]
    if missing:
        raise UserError(
            f"{given.file}: {len(missing)} of its {len(names)} pictures are not among the {len(folder.files)} of {folder.name}, "
            f"e.g. {missing[0]}; give the folder that they were made from"
        )
    return np.array([numbers[names[name]] for name in given.pictures], np.int64)


def check_fits(given: GivenBoxes, frames: np.ndarray, source: FrameSource, exact: bool = False) -> None:
    """Raise UserError if boxes, by frame numbers from 0, lie before or behind the video; names both counts.

    Args:
        exact: do not trust the number of frames that a container states; many estimate it.
    """
    if not len(frames) or source.live:
        return
    lowest, highest = int(frames.min()), int(frames.max())
    first = 0 if given.frames is None else int(given.frames[0] - frames[0])
    if lowest < 0:
        raise UserError(
            f"{given.file}: its first frame is {lowest + first}, but frames count from {first}; give --first-frame {lowest + first}"
        )
    stated = max(highest + 1, given.num_frames or 0)
    count = source.num_frames
    if exact or count is None or stated > count:
        count = source.count_frames()
    if stated <= count:
        return
    hint = "check that the boxes belong to this video"
    if lowest > 0 and highest - lowest < count:
        number = first + (1 if highest == count else lowest)
        hint = f"if the video's first frame is number {number} there, give --first-frame {number}"
    raise UserError(
        f"{given.file}: has boxes up to frame {highest + first}, counted from {first}, and covers {stated} frames; "
        f"{source.name} has {count}: {hint}"
    )


def check_times(given: GivenBoxes, source: FrameSource) -> None:
    """Raise UserError if boxes, by seconds from the start, lie before or behind the video; names both lengths."""
    if given.seconds is None or not len(given.seconds) or source.live:
        return
    length = (source.num_frames or source.count_frames()) / source.fps
    lowest, highest = float(given.seconds.min()), float(given.seconds.max())
    if lowest < -0.5 / source.fps or highest > length + 0.5 / source.fps:
        raise UserError(
            f"{given.file}: has boxes from second {lowest:.10g} to {highest:.10g}; {source.name} has {length:.1f} s: times count "
            "from the start of the video"
        )


def check_size(given: GivenBoxes, frame: VideoFrame) -> None:
    """Raise UserError if the boxes refer to frames of another size; names both."""
    height, width = frame.pixels.shape[:2]
    if given.size is not None and given.size != (height, width):
        raise UserError(
            f"{given.file}: its boxes refer to frames of {given.size[1]} x {given.size[0]} pixels, those of the video have "
            f"{width} x {height}; give the video that they were made from"
        )
    boxes = given.detections.boxes
    if given.fractions or not len(boxes):
        return
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    outside = ((centres < 0) | (centres > (width, height))).any(axis=1)
    if outside.mean() > 0.5:
        x, y = boxes[:, 2].max(), boxes[:, 3].max()
        raise UserError(
            f"{given.file}: most boxes lie outside the frames of {width} x {height} pixels (they reach to {x:.0f}, {y:.0f}); "
            "give the video that they were made from"
        )


def _find_pictures(given: GivenBoxes, names: list[str], folder: Path | None) -> dict[str, Path]:
    root = given.file if given.file.is_dir() else given.file.parent
    places = [folder] if folder else [root, *_image_folders(root)]
    found = {name: _find(name, places) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{given.file}: {len(missing)} of its {len(names)} pictures are missing below {places[0]}, e.g. {missing[0]}; give "
            "the folder of the pictures"
        )
    return {name: path for name, path in found.items() if path is not None}


def _image_folders(root: Path) -> list[Path]:
    """Return where the pictures of label files lie in data sets: images/… next to labels/…, or the folder's parent."""
    parts = list(root.parts)
    if "labels" in parts:
        place = len(parts) - 1 - parts[::-1].index("labels")
        return [Path(*parts[:place], "images", *parts[place + 1 :]), root.parent]
    return [root / "images"]


def _find(name: str, places: list[Path]) -> Path | None:
    for place in places:
        path = place / name
        if path.is_file():
            return path
        for suffix in EXTENSIONS if path.suffix.lower() not in EXTENSIONS else ():
            for own in (suffix, suffix.upper()):
                if (other := path.with_name(path.name + own)).is_file():
                    return other
    return None
