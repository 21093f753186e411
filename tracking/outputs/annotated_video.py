"""A recording with the boxes and ids of its tracks drawn into it."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np

from ...common.errors import UserError
from ..tracklets.following import TrackedFrame
from .track_output import TrackOutput

CODEC = "mp4v"  # MPEG-4 part 2, which every build of OpenCV writes
GOLDEN = 0.618034  # step of the hue from one id to the next: neighbours differ most
TEXT = cv2.FONT_HERSHEY_SIMPLEX


class AnnotatedVideo(TrackOutput):
    """An MP4 file of the frames read; each track has a colour, boxes without one are grey.

    Ids are those known at the frame, so that it shows when the tracker changes its mind.

    Args:
        path: the file.
        fps: its frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, tracked: TrackedFrame) -> None:
        """Draw and write the next frame.

        Raises:
            UserError: OpenCV cannot write the file.
        """
        pixels = tracked.frame.pixels.copy()
        for box, score, label, id in zip(
            tracked.detections.boxes, tracked.detections.scores, tracked.detections.labels, tracked.ids.tolist()
        ):
            draw_box(pixels, box, f"{id} {label} {score:.2f}" if id >= 0 else f"{label} {score:.2f}", color_of(id))
        if self._writer is None:
            self._size = pixels.shape[1], pixels.shape[0]
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*CODEC), self.fps, self._size)
            if not self._writer.isOpened():
                raise UserError(f"--output: OpenCV cannot write {self.path}; leave the video out: --no-video")
        if self._size != (pixels.shape[1], pixels.shape[0]):  # still pictures of several sizes
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(pixels)

    def finish(self) -> None:
        """Close the file and put it in its place."""
        if self._writer is not None:
            self._writer.release()
            self._partial.replace(self.path)


def color_of(id: int) -> tuple[int, int, int]:
    """Return the colour of a track, BGR; grey for -1."""
    if id < 0:
        return (154, 154, 154)
    red, green, blue = colorsys.hsv_to_rgb(id * GOLDEN % 1, 0.85, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_box(pixels: np.ndarray, box: np.ndarray, text: str, color: tuple[int, int, int]) -> None:
    """Draw a box (x0, y0, x1, y1) and a line of text above it, or below its upper edge at the frame's top."""
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    cv2.rectangle(pixels, (x0, y0), (x1, y1), color, 2)
    (width, height), _ = cv2.getTextSize(text, TEXT, 0.45, 1)
    bottom = y0 if y0 > height + 6 else y0 + height + 6
    cv2.rectangle(pixels, (x0, bottom - height - 6), (x0 + width + 4, bottom), color, -1)
    cv2.putText(pixels, text, (x0 + 2, bottom - 4), TEXT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
