"""What moves in front of a fixed camera: background subtraction (Zivkovic, ICPR 2004); needs neither weights nor network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from ...common.errors import UserError, choose
from ..class_names import same_class
from ..detections import Detections, VideoFrame
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish

SUBTRACTORS = {"mog2": cv2.createBackgroundSubtractorMOG2, "knn": cv2.createBackgroundSubtractorKNN}
WORK_HEIGHT = 360  # pixels; larger frames are reduced to it: noise averages out, and people are larger than a pixel
HISTORY = 500  # frames over which the background is learnt: OpenCV's default
WARM_UP = 100  # frames with OpenCV's own rate, which is fast at first: cameras set their exposure then
MOVING, SHADOW = 255, 127  # values in OpenCV's masks; shadows are left out
LEAST_HEIGHT = 0.08  # of the frame's height; lower shapes are noise
BODY = (1.2, 5.0)  # least and greatest height / width of a person who stands, walks or sits
VALLEY = 0.5  # a shape is cut where its column is lower than this share of the lower one of the peaks on both sides


class MotionDetector(Detector):
    """Moving shapes as boxes, for a camera that does not move. It cannot distinguish classes.

    Frames are seen in order; `stream` starts with a new background. Someone who stands still becomes background in time.

    Args:
        method: mog2 or knn.
        options: `classes` holds one name, that of every box; shapes that no body has are left out for "person" only.
    """

    has_memory = True

    def __init__(self, method: str, options: DetectorOptions) -> None:
        self._make = choose("motion", method or "mog2", SUBTRACTORS)
        if len(options.classes) > 1:
            raise UserError(
                f"detector motion: cannot distinguish {' and '.join(options.classes)}; give one class, or another detector"
            )
        self.options = options
        self._classes = ClassFilter(options.classes, options.classes, "detector motion")
        self._bodies = same_class("person", options.classes[0])
        self.restart()

    def restart(self) -> None:
        """Forget the background, for another video."""
        self._subtractor, self._seen = self._make(history=HISTORY, detectShadows=True), 0

    def stream(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, Detections]]:
        """Yield each frame of one video with its boxes, in order."""
        self.restart()
        yield from super().stream(frames)

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the moving shapes of frames that follow the ones of the last call."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: np.ndarray) -> Detections:
        height, width = frame.shape[:2]
        factor = min(1.0, WORK_HEIGHT / height)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if factor < 1 else frame
        found = self._subtractor.apply(small, learningRate=-1 if self._seen < WARM_UP else 1 / HISTORY)
        self._seen += 1
        mask = joined(with_dark_clothes(found == MOVING, found == SHADOW))
        boxes, shares = moving_boxes(mask)
        if self._bodies and len(boxes):
            ratio = (boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0])
            bodies = (ratio >= BODY[0]) & (ratio <= BODY[1])
            boxes, shares = boxes[bodies], shares[bodies]
        scale = np.array([width / size[0], height / size[1]] * 2, np.float32)
        raw = RawBoxes(boxes * scale, np.sqrt(shares), np.zeros(len(boxes), np.int64))
        return finish(raw, self._classes, self.options, (height, width), suppress=True)


def with_dark_clothes(moving: np.ndarray, shadow: np.ndarray) -> np.ndarray:
    """Return the moving pixels (h, w) bool with those shadows that have moving pixels above and below: clothes, no shadows.

    A shadow lies on the floor, below or next to a body; a shirt that is darker than the wall lies between head and legs.
    """
    below = np.maximum.accumulate(moving, axis=0)
    above = np.maximum.accumulate(moving[::-1], axis=0)[::-1]
    return moving | (shadow & below & above)


def joined(moving: np.ndarray) -> np.ndarray:
    """Return a mask (h, w) bool as uint8 without specks; parts of one body that clothes like the background separate are joined."""
    mask = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    reach = max(3, mask.shape[0] // 24)  # parts of a body lie above one another rather than side by side
    kernel = np.ones((reach | 1, max(3, reach // 3) | 1), np.uint8)  # odd sides keep the shape in its place
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)


def moving_boxes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4) float32 around the shapes of a mask (h, w) 0 or 1, and the share of each box that moves (N,)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    boxes, shares = [], []
    for number in range(1, count):
        x, y, width, height = (int(value) for value in stats[number, :4])
        if height < LEAST_HEIGHT * mask.shape[0]:
            continue
        shape = labels[y : y + height, x : x + width] == number
        for left, right in columns_of_bodies(shape.sum(axis=0)):
            rows = np.flatnonzero(shape[:, left:right].any(axis=1))
            top, bottom = int(rows[0]), int(rows[-1]) + 1
            boxes.append((x + left, y + top, x + right, y + bottom))
            shares.append(shape[top:bottom, left:right].mean())
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(shares, np.float32)


def columns_of_bodies(heights: np.ndarray) -> list[tuple[int, int]]:
    """Return the (first, behind last) columns of the bodies in one shape: cut in the valleys between peaks.

    Args:
        heights: (w,) moving pixels in each column of the shape, at least 1 in each.

    >>> columns_of_bodies(np.array([2, 9, 9, 2, 1, 8, 9, 3]))
    [(0, 4), (4, 8)]
    """
    left_peaks = np.maximum.accumulate(heights)
    right_peaks = np.maximum.accumulate(heights[::-1])[::-1]
    depth = heights / np.minimum(left_peaks, right_peaks)
    deepest = int(depth.argmin())
    if depth[deepest] >= VALLEY:
        return [(0, len(heights))]
    after = [(start + deepest, stop + deepest) for start, stop in columns_of_bodies(heights[deepest:])]
    return [*columns_of_bodies(heights[:deepest]), *after]
