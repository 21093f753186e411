"""Frames of a video file, a folder of frames, still pictures or a live source."""

from __future__ import annotations

from pathlib import Path

from ...datasets.readers.image_files import EXTENSIONS
from .frame_folder import FrameFolder, StillPicture
from .frame_source import CorruptVideoError, FrameSource
from .live_stream import LiveStream, is_live
from .video_file import VideoFile

__all__ = [
    "CorruptVideoError",
    "FrameFolder",
    "FrameSource",
    "LiveStream",
    "StillPicture",
    "VideoFile",
    "is_live",
    "open_frames",
]


def open_frames(source: str | Path, fps: float | None = None) -> FrameSource:
    """Return the frames of a source.

    Args:
        source: a video file; a folder of frames (one image file each); an image file; the URL of a live stream, such as
            rtsp://…; or the number of a webcam, such as 0.
        fps: frames per second; None = what the source states.
    Raises:
        FileNotFoundError: there is no such file or folder.
        CorruptVideoError: nothing in it can be decoded; names the reason.
        UserError: `fps` is not above 0.
    """
    text = str(source)
    path = Path(text).expanduser()
    if is_live(text) and not path.exists():
        return LiveStream(text, fps)
    if path.is_dir():
        return FrameFolder(path, fps)
    if not path.is_file():
        raise FileNotFoundError(
            f"{text!r} does not exist; expected a video file, a folder of frames, an image, a URL such as "
            "rtsp://camera/stream, or the number of a webcam"
        )
    return StillPicture(path) if path.suffix.lower() in EXTENSIONS else VideoFile(path, fps)
