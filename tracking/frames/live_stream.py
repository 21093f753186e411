"""Frames of a camera as they come: a stream's URL or a webcam."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Iterator

import cv2

from ...common.errors import UserError
from ..detections import VideoFrame
from .frame_source import CorruptVideoError, FrameSource, check_stride, known_fps

_URL = re.compile(r"(rtsps?|rtmps?|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
OPEN_SECONDS, READ_SECONDS = 10, 10  # after so long without an answer, or a frame, the stream counts as ended
STOP_SECONDS = 1.0  # that a closed stream waits for its camera
WAITING = 8  # frames that a slow reader may be behind; 50 MB at 1920 x 1080


def is_live(source: str) -> bool:
    """Return whether the text names a stream or a webcam.

    >>> is_live("rtsp://10.0.0.7/door"), is_live("0"), is_live("lobby.mp4")
    (True, True, False)
    """
    return bool(_URL.match(source)) or source.isdecimal()


class LiveStream(FrameSource):
    """A stream or a webcam, read once. Frame 0 is the first one; seconds count from it by this machine's clock.

    A thread reads the camera without a pause. If the loop over `frames` is slower than the camera, the oldest waiting frames are
    dropped: numbers are then missing, and the picture never lags more than WAITING frames behind.

    The stream ends when the camera sends nothing for READ_SECONDS, or when `close` is called, also by another thread or a
    signal's handler: the loop over `frames` then ends without an error.
    """

    live = True

    def __init__(self, source: str, fps: float | None = None) -> None:
        self.name = without_password(source)
        self._capture = _open(source, self.name)
        stated = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = known_fps(self.name, fps, stated, quiet=True)
        self._waiting: queue.Queue[VideoFrame | None] = queue.Queue()  # None = the end
        self._stopped, self._used = threading.Event(), False

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield every n-th frame until the stream ends or is closed; see FrameSource.

        Raises:
            CorruptVideoError: it ends without a frame.
            UserError: it has been read before.
        """
        check_stride(every, start)
        if self._used:
            raise UserError(f"{self.name}: a live source is read once; open it again")
        self._used, empty = True, True
        reader = threading.Thread(target=self._read, args=(every, start), name="live stream", daemon=True)
        reader.start()
        try:
            while (frame := self._waiting.get()) is not None and not self._stopped.is_set():
                empty = False
                yield frame
            if empty and not self._stopped.is_set():
                raise CorruptVideoError(f"{self.name}: no frame came within {READ_SECONDS} s; check the camera")
        finally:
            self.close()
            reader.join(STOP_SECONDS)

    def _read(self, every: int, start: int) -> None:
        """Read the camera until it ends; runs in its own thread, which alone uses the capture."""
        number, began = 0, time.monotonic()
        try:
            while not self._stopped.is_set() and self._capture.grab():
                now = time.monotonic()
                began = began if number else now
                if number >= start and number % every == 0:
                    decoded, pixels = self._capture.retrieve()
                    if decoded:
                        self._put(VideoFrame(number, now - began, pixels))
                number += 1
        finally:
            self._capture.release()
            self._waiting.put(None)

    def _put(self, frame: VideoFrame) -> None:
        if self._waiting.qsize() >= WAITING:
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()
        self._waiting.put(frame)

    def close(self) -> None:
        """End the loop over `frames`: it yields nothing more."""
        self._stopped.set()
        self._waiting.put(None)

    def count_frames(self) -> int:
        """Raise UserError: a live source has no length."""
        raise UserError(f"{self.name}: a live source has no number of frames")


def _open(source: str, name: str) -> cv2.VideoCapture:
    """Return the opened camera.

    Raises:
        CorruptVideoError: it does not answer.
    """
    webcam = source.isdecimal()
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_SECONDS * 1000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_SECONDS * 1000]
    capture = cv2.VideoCapture(int(source)) if webcam else cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        kind = "webcam" if webcam else "stream"
        raise CorruptVideoError(f"{name}: this {kind} cannot be opened; check its address, name and password")
    return capture


def without_password(url: str) -> str:
    """Return the URL for messages and files, without user name and password.

    >>> without_password("rtsp://admin:secret@10.0.0.7:554/door")
    'rtsp://10.0.0.7:554/door'
    """
    return re.sub(r"(?<=://)[^/@]*@", "", url)
