"""Frames of a camera as they come: a stream's URL or a webcam."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import cv2

from ...common.errors import UserError
from ..detections import VideoFrame
from .frame_source import DEFAULT_FPS, CorruptVideoError, FrameSource, check_stride, known_fps

_URL = re.compile(r"(rtsps?|rtmps?|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
OPEN_SECONDS, READ_SECONDS = 10, 10  # after so long without an answer, or a frame, the stream counts as ended


def is_live(source: str) -> bool:
    """Return whether the text names a stream or a webcam.

    >>> is_live("rtsp://10.0.0.7/door"), is_live("0"), is_live("lobby.mp4")
    (True, True, False)
    """
    return bool(_URL.match(source)) or source.isdecimal()


class LiveStream(FrameSource):
    """A stream or a webcam, read once. Frame 0 is the first one read; seconds count from it by this machine's clock.

    The stream ends when the camera sends nothing for READ_SECONDS, or when `close` is called, also by another thread or a
    signal's handler: the loop over `frames` then ends without an error.
    """

    live = True

    def __init__(self, source: str, fps: float | None = None) -> None:
        self.name = without_password(source)
        target = int(source) if source.isdecimal() else source
        backend = cv2.CAP_ANY if isinstance(target, int) else cv2.CAP_FFMPEG
        limits = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_SECONDS * 1000),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_SECONDS * 1000),
        ]
        self._capture = cv2.VideoCapture(target, backend, [] if isinstance(target, int) else limits)
        if not self._capture.isOpened():
            kind = "webcam" if isinstance(target, int) else "stream"
            raise CorruptVideoError(f"{self.name}: this {kind} cannot be opened; check its address, name and password")
        stated = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = known_fps(self.name, fps, stated, quiet=True) if fps or stated > 0 else DEFAULT_FPS
        self._stopped = self._used = False

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield every n-th frame until the stream ends or is closed; see FrameSource."""
        check_stride(every, start)
        if self._used:
            raise UserError(f"{self.name}: a live source is read once; open it again")
        self._used, number, began = True, 0, None
        try:
            while not self._stopped and self._capture.grab():
                now = time.monotonic()
                began = now if began is None else began
                if number >= start and number % every == 0:
                    decoded, pixels = self._capture.retrieve()
                    if decoded:
                        yield VideoFrame(number, now - began, pixels)
                number += 1
        finally:
            self._capture.release()
        if not number:
            raise CorruptVideoError(f"{self.name}: no frame came within {READ_SECONDS} s; check the camera")

    def close(self) -> None:
        """End the loop over `frames` after its present frame."""
        self._stopped = True

    def count_frames(self) -> int:
        """Raise UserError: a live source has no length."""
        raise UserError(f"{self.name}: a live source has no number of frames")


def without_password(url: str) -> str:
    """Return the URL for messages and files, without user name and password.

    >>> without_password("rtsp://admin:secret@10.0.0.7:554/door")
    'rtsp://10.0.0.7:554/door'
    """
    return re.sub(r"(?<=://)[^/@]*@", "", url)
