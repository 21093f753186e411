"""Recordings: which videos, folders of frames or live streams an input names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from ..common.errors import UserError
from ..datasets.readers.image_files import EXTENSIONS
from .frames import is_live

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"),
    *(".ogv", ".mjpg", ".mjpeg", ".264", ".h264", ".265", ".h265", ".hevc"),
)
FRAMES = "img1"  # the folder of frames in a sequence of MOTChallenge


@dataclass(frozen=True)
class Recording:
    """A video, a folder of frames or a live stream.

    Args:
        source: what `open_frames` opens.
        name: unique among the recordings of an input; the names of its tracklets start with it.
        camera: name of the camera, None = unknown.
        start: time of its first frame, with a time zone; None = unknown.
    """

    source: str
    name: str
    camera: str | None = None
    start: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether it is a stream or a webcam."""
        return is_live(self.source)

    @property
    def folder(self) -> Path | None:
        """Folder of the sequence of MOTChallenge whose frames these are; None for other recordings."""
        path = Path(self.source)
        return path.parent if path.name == FRAMES and path.is_dir() else None

    def time(self, seconds: float) -> float:
        """Return the time of a frame: seconds since 1970 if the start is known, else seconds in the recording."""
        return seconds if self.start is None else self.start.timestamp() + seconds

    def moment(self, seconds: float) -> datetime | None:
        """Return the time of a frame at the camera's clock; None without a start."""
        if self.start is None:
            return None
        return datetime.fromtimestamp(self.time(seconds), timezone.utc).astimezone(self.start.tzinfo)

    def utc_offset(self, seconds: float) -> str | None:
        """Return the offset of the camera's clock at a frame, such as +01:00; None without a start."""
        moment = self.moment(seconds)
        return None if moment is None else moment.isoformat()[-6:]


def list_recordings(source: str) -> list[Recording]:
    """Return the recordings that an input names, without camera and start.

    Args:
        source: a video; a folder of videos, with its sub-folders; a folder of frames, or of sequences that hold their frames
            in a folder img1/; or the URL of a live stream.
    Raises:
        FileNotFoundError: it does not exist.
        UserError: a folder holds neither videos nor images.
    """
    if is_live(source):
        return [Recording(source, "live")]
    path = Path(os.path.abspath(Path(source).expanduser()))
    if not path.exists():
        raise FileNotFoundError(
            f"--input: {source!r} does not exist; expected a video, a folder of videos or frames, or a URL such as rtsp://…"
        )
    if path.is_file():
        return [Recording(str(path), path.stem)]
    if path.name == FRAMES:
        return [Recording(str(path), path.parent.name)]
    if (path / FRAMES).is_dir():
        return [Recording(str(path / FRAMES), path.name)]
    found = sorted(_below(path), key=lambda recording: recording.name)
    if not found and any(file.suffix.lower() in EXTENSIONS for file in path.iterdir()):
        return [Recording(str(path), path.name)]
    if not found:
        raise UserError(
            f"--input: {source} holds no video, no folder {FRAMES}/ and no image; give the folder of the videos"
        )
    _check_names(found)
    return found


def _below(folder: Path) -> list[Recording]:
    """Return the videos and the sequences in a folder and below; hidden ones are left out."""
    found, seen = [], set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        if FRAMES in folders:
            found.append(Recording(os.path.join(place, FRAMES), _name(folder, place)))
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and name != FRAMES]
        for name in files:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                found.append(Recording(os.path.join(place, name), _name(folder, os.path.join(place, stem))))
    return found


def _name(folder: Path, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _check_names(found: Sequence[Recording]) -> None:
    for one, other in pairwise(found):
        if one.name == other.name:
            raise UserError(
                f"--input: {one.source} and {other.source} differ only in their suffix; rename one, or move it away"
            )
