"""Frames of a video file through OpenCV's FFmpeg."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2

from ...common.errors import UserError
from ...common.inputs.regular_files import check_video, open_regular
from ..detections import VideoFrame
from .frame_source import CorruptVideoError, FrameSource, check_stride, known_fps

logger = logging.getLogger(__name__)
RAW_STREAMS = (".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".mjpeg", ".mjpg")  # pictures without timestamps
MOST_BOXES = 10_000  # looked at in an MP4 file; a sound one has a handful on its first level
LEAST_GAP, MISSING_SHARE = 1.0, 0.02  # seconds, and share of the stated length, that may be missing at the end


class VideoFile(FrameSource):
    """A video file in any container that FFmpeg reads, also raw streams (.264, .h265) without timestamps.

    Args:
        fps: frames per second; it replaces the container's timestamps. None = timestamps, else the rate stated.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self.path, self.name = Path(path), str(path)
        capture = open_capture(self.path)
        try:
            stated, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not capture.grab():
                raise _undecodable(self.path, "no frame of it can be decoded")
            self.num_frames = int(count) if count > 0 else None
            raw = self.path.suffix.lower() in RAW_STREAMS
            self._has_clock = fps is None and not raw and capture.grab() and capture.get(cv2.CAP_PROP_POS_MSEC) > 0
        finally:
            capture.release()
        guessed = raw or (self.num_frames is None and not self._has_clock)  # FFmpeg then states its own default, 25
        self.fps = known_fps(self.name, fps, 0 if guessed else stated, quiet=self._has_clock)
        self._count: int | None = None

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield every n-th frame; see FrameSource. A file that ends early is reported in the log, with both counts."""
        check_stride(every, start)
        capture, number, seconds = open_capture(self.path), 0, -1 / self.fps
        try:
            while capture.grab():
                seconds = self._seconds(number, capture.get(cv2.CAP_PROP_POS_MSEC), seconds)
                if number >= start and number % every == 0:
                    decoded, pixels = capture.retrieve()
                    if decoded:
                        yield VideoFrame(number, seconds, pixels)
                    else:
                        logger.warning("%s: frame %d cannot be decoded; it is left out", self.name, number)
                number += 1
        finally:
            capture.release()
        self._count = number
        self._report_missing(number, seconds + 1 / self.fps)

    def _seconds(self, number: int, milliseconds: float, before: float) -> float:
        """Return the frame's time: the container's timestamp if it increases, else by the frame rate."""
        if not self._has_clock:
            return number / self.fps
        stated = milliseconds / 1000
        return stated if stated > before and (stated > 0 or number == 0) else before + 1 / self.fps

    def _report_missing(self, number: int, seconds: float) -> None:
        """Log a warning if the video is shorter than its container states."""
        stated = self.num_frames
        if stated is None or number >= stated:
            return
        expected = stated / self.fps
        if expected - seconds > max(LEAST_GAP, MISSING_SHARE * expected):
            logger.warning(
                "%s: %d of %d frames could be decoded (%.1f of %.1f s); the file is truncated or damaged, or was cut without "
                "encoding it again. What could be decoded is used",
                *(self.name, number, stated, seconds, expected),
            )

    def count_frames(self) -> int:
        """Return the number of frames, by decoding the file once."""
        if self._count is None:
            capture, count = open_capture(self.path), 0
            while capture.grab():
                count += 1
            capture.release()
            self._count = count
        return self._count


def open_capture(path: Path) -> cv2.VideoCapture:
    """Return the opened file.

    Raises:
        FileNotFoundError: no such file.
        CorruptVideoError: it is empty, incomplete, or no video.
    """
    try:
        check_video(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such video") from None
    except UserError as error:
        raise CorruptVideoError(str(error)) from error
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise _undecodable(path, "OpenCV (FFmpeg) cannot open it as a video")
    return capture


def _undecodable(path: Path, what: str) -> CorruptVideoError:
    """Return the error with the most likely reason, read from the file's content."""
    if not path.stat().st_size:
        return CorruptVideoError(f"{path}: the file is empty; copy or record it again")
    if _lacks_index(path):
        return CorruptVideoError(
            f"{path}: the index (moov) of this MP4 file is missing; the recording was not finished or the copy is "
            "incomplete: copy it again, or repair it with a tool such as untrunc"
        )
    return CorruptVideoError(
        f"{path}: {what}; play it with ffplay or VLC: if that works, convert it with `ffmpeg -i {path.name} converted.mp4`"
    )


def _lacks_index(path: Path) -> bool:
    """Return whether the file is an MP4 or MOV without its moov box (ISO/IEC 14496-12, 4.2)."""
    kinds: list[bytes] = []
    size = path.stat().st_size
    with open_regular(path) as file:
        position = 0
        while position + 8 <= size and len(kinds) < MOST_BOXES:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:], "big")
            if not kinds and kind not in (b"ftyp", b"mdat", b"wide", b"free"):
                return False
            kinds.append(kind)
            if length < 8:  # 0: up to the end of the file
                break
            position += length
    return bool(kinds) and b"moov" not in kinds
