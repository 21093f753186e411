"""Drawing of figures: rounded limbs and barrel-shaped bodies, seen from any side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .identity import Colour

Point = tuple[float, float, float]  # x to the left hand, y down from the top of the head, z forward; in body heights
Paint = Colour | np.ndarray  # one colour, or a picture of the board's size


@dataclass(frozen=True)
class Frame:
    """Rotation of a body: from its axes to the picture's.

    Args:
        yaw: in radians; 0 faces the viewer.
        tilt: how much nearer things appear lower.
    """

    yaw: float
    tilt: float

    def depth(self, x: float, z: float) -> float:
        """Return the depth of a point, larger = nearer to the viewer; 0 = the body's axis."""
        return float(z * np.cos(self.yaw) - x * np.sin(self.yaw))

    def project(self, point: Point) -> tuple[float, float]:
        """Return the picture's x and y of a point, in body heights from the axis and the top of the head."""
        x, y, z = point
        return float(x * np.cos(self.yaw) + z * np.sin(self.yaw)), float(y + self.tilt * self.depth(x, z))

    def half_width(self, a: float, b: float) -> float:
        """Return half the visible width of an ellipse with the half axes a (across) and b (front to back)."""
        return float(np.hypot(a * np.cos(self.yaw), b * np.sin(self.yaw)))


class Sketch:
    """A picture and the position of a figure in it.

    Args:
        image: (H, W, 3) uint8 RGB, drawn upon.
        centre: the body axis, in pixels from the left; top: the top of the head, from above.
        scale: the body height in pixels.
    """

    def __init__(self, image: np.ndarray, centre: float, top: float, scale: float) -> None:
        self.image, self.centre, self.top, self.scale = image, centre, top, scale
        self.mask: np.ndarray = np.zeros(image.shape[:2], np.uint8)  # where the figure is

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a place given in body heights."""
        return self.centre + x * self.scale, self.top + y * self.scale

    def limb(self, frame: Frame, start: Point, end: Point, r0: float, r1: float, paint: Paint) -> None:
        """Draw a rounded stick from radius r0 to r1, lighter along its upper left side."""
        p0, p1 = (np.array(self.pixel(*frame.project(point))) for point in (start, end))
        self._stick(p0, p1, r0 * self.scale, r1 * self.scale, _shade(paint, 0.82))
        light = np.array([-0.22, -0.1]) * min(r0, r1) * self.scale
        self._stick(p0 + light, p1 + light, r0 * 0.68 * self.scale, r1 * 0.68 * self.scale, paint)

    def _stick(self, p0: np.ndarray, p1: np.ndarray, r0: float, r1: float, paint: Paint) -> None:
        along = (p1 - p0) / max(float(np.hypot(*(p1 - p0))), 1e-6)
        across = np.array([-along[1], along[0]])
        corners = np.array([p0 + across * r0, p0 - across * r0, p1 - across * r1, p1 + across * r1])
        self.fill([corners], paint, ((p0, r0), (p1, r1)))

    def body(self, frame: Frame, outline: Sequence[tuple[float, float, float]], paint: Paint) -> None:
        """Draw a barrel, darker towards its edges.

        Args:
            outline: (y, half width, half depth) from top to bottom.
        """
        half = [(y, frame.half_width(a, b)) for y, a, b in outline]
        for share, shade in ((1.0, 0.8), (0.84, 0.92), (0.62, 1.0)):
            left = [self.pixel(-width * share - 0.012 * (1 - share), y) for y, width in half]
            right = [self.pixel(width * share - 0.05 * (1 - share), y) for y, width in half]
            self.fill([np.array(left + right[::-1])], _shade(paint, shade))

    def fill(
        self, polygons: Sequence[np.ndarray], paint: Paint, circles: Sequence[tuple[np.ndarray, float]] = ()
    ) -> None:
        """Fill polygons (N, 2) and circles (centre, radius), all in pixels."""
        if isinstance(paint, np.ndarray):
            part = np.zeros_like(self.mask)
            _fill(part, polygons, circles, 255)
            cv2.copyTo(paint, part, self.image)
        else:
            _fill(self.image, polygons, circles, paint)
        _fill(self.mask, polygons, circles, 255)


def _fill(board: np.ndarray, polygons: Sequence[np.ndarray], circles: Sequence, colour: Colour | int) -> None:
    for polygon in polygons:
        cv2.fillPoly(board, [np.round(polygon * 16).astype(np.int32)], colour, shift=4)
    for (x, y), radius in circles:
        cv2.circle(board, (round(x * 16), round(y * 16)), max(1, round(radius * 16)), colour, -1, shift=4)


def _shade(paint: Paint, factor: float) -> Paint:
    if factor == 1.0:
        return paint
    if isinstance(paint, np.ndarray):
        return cv2.convertScaleAbs(paint, alpha=factor)
    return shade(paint, factor)


def shade(colour: Colour, factor: float) -> Colour:
    """Return a darker or lighter colour."""
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue
