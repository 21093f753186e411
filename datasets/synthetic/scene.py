"""A camera's view with several people in it: drawn from far to near, with what of each can be seen."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .body import Pose, draw_person
from .camera import Camera, light_figure
from .drawing import Sketch
from .identity import SyntheticPerson
from .walks import StandingPlace, View

_OVERSAMPLING = 2
_EDGE = 96  # pixels around the picture in which people are drawn too, so that their full boxes are known
_PILLAR = -2  # in the picture of owners

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


class SeenPerson(NamedTuple):
    """A person in a frame.

    Args:
        person: number from 0.
        box: x0, y0, x1, y1 of the whole body in pixels, hidden parts included; may extend beyond the frame.
        visible: share of the body that can be seen, in [0, 1].
        seen: the box of the part that can be seen.
    """

    person: int
    box: Corners
    visible: float
    seen: Corners


class Scene:
    """The view of one camera.

    Args:
        camera: its colours, noise and background.
        view: its floor.
        seed, number: of the camera; they place the pillar and draw the noise.
    """

    def __init__(self, camera: Camera, view: View, seed: int, number: int) -> None:
        self._camera, self._view, self._seed, self._number = camera, view, seed, number
        rng = np.random.default_rng([seed, 6, number])
        size = (view.width + 2 * _EDGE, view.height + 2 * _EDGE)
        self._background = cv2.resize(camera.backdrop, size, interpolation=cv2.INTER_AREA)
        self._pillar = (view.width * rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.8))  # x in pixels, depth
        self._pillar_colour = rng.integers(40, 180, 3).tolist()
        self._table = _tones(camera)
        self._noise = rng.normal(0, 255 * camera.noise, (view.height + 64, view.width + 64, 3)).astype(np.int16)

    def draw(
        self, people: list[SyntheticPerson], places: list[tuple[int, StandingPlace]], frame: int
    ) -> tuple[np.ndarray, list[SeenPerson]]:
        """Return a frame, (H, W, 3) uint8 RGB, and the people of whom something can be seen.

        Args:
            people: everybody; places: who is in view, and where.
            frame: number, for the noise.
        """
        canvas = self._background.copy()
        owners = np.full(canvas.shape[:2], -1, np.int16)
        bodies: dict[int, tuple[np.ndarray, int]] = {}  # person: box in the canvas, area in pixels
        pillar_is_due = True
        for number, place in sorted(places, key=lambda pair: pair[1].depth):
            if pillar_is_due and place.depth > self._pillar[1]:
                self._draw_pillar(canvas, owners)
                pillar_is_due = False
            bodies[number] = self._draw_person(canvas, owners, people[number], number, place)
        if pillar_is_due:
            self._draw_pillar(canvas, owners)
        inside = (slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
        seen = [
            _seen(number, box - _EDGE, area, owners[inside] == number) for number, (box, area) in sorted(bodies.items())
        ]
        return self._expose(canvas[inside], frame), [one for one in seen if one.visible > 0]

    def _draw_person(
        self, canvas: np.ndarray, owners: np.ndarray, person: SyntheticPerson, number: int, place: StandingPlace
    ) -> tuple[np.ndarray, int]:
        """Draw into the canvas; return the body's box (4,) in the canvas, and its area in pixels."""
        height, feet = self._view.body(place.depth), self._view.feet(place.depth)
        x0, x1 = int(_EDGE + place.x - 0.45 * height), int(_EDGE + place.x + 0.45 * height)
        y0, y1 = int(_EDGE + feet - 1.12 * height), int(_EDGE + feet + 0.1 * height)
        patch = (slice(max(0, y0), y1), slice(max(0, x0), x1))
        x0, y0 = max(0, x0), max(0, y0)
        part = canvas[patch]
        if not part.size:
            return np.zeros(4), 0
        large = cv2.resize(part, None, fx=_OVERSAMPLING, fy=_OVERSAMPLING)
        top = _OVERSAMPLING * (_EDGE + feet - 0.98 * height - y0)
        sketch = Sketch(large, _OVERSAMPLING * (_EDGE + place.x - x0), top, _OVERSAMPLING * height)
        pose = Pose(place.yaw, place.phase, 0.06 + 0.34 * place.pace, 0.05 + 0.35 * place.pace, self._camera.tilt)
        draw_person(sketch, person, pose)
        light_figure(sketch, np.random.default_rng([self._seed, 7, self._number, number]))  # the same in each frame
        small = (part.shape[1], part.shape[0])
        shares = cv2.resize(sketch.mask, small, interpolation=cv2.INTER_AREA)
        drawn = cv2.resize(large, small, interpolation=cv2.INTER_AREA)
        np.copyto(part, drawn, where=shares[..., None] > 0)
        body = shares > 127
        owners[patch][body] = number
        left, up, width, high = cv2.boundingRect(body.astype(np.uint8))
        return np.array([x0 + left, y0 + up, x0 + left + width, y0 + up + high], float), int(body.sum())

    def _draw_pillar(self, canvas: np.ndarray, owners: np.ndarray) -> None:
        """Draw a pillar that hides who passes behind it."""
        x, depth = self._pillar
        half = 0.22 * self._view.body(depth)
        left, right = int(_EDGE + x - half), int(_EDGE + x + half)
        bottom = int(_EDGE + self._view.feet(depth))
        for board, colour in ((canvas, self._pillar_colour), (owners, _PILLAR)):
            board[:bottom, left:right] = colour
        canvas[:bottom, left : left + max(1, (right - left) // 4)] //= 2
        canvas[:bottom, left : left + max(1, (right - left) // 4)] += np.array(self._pillar_colour, np.uint8) // 4

    def _expose(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """Apply the camera's colours, blur and noise."""
        soft = cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), max(0.1, 0.6 * self._camera.blur))
        share = self._camera.colour
        mix = np.full((3, 3), (1 - share) / 3, np.float32) + share * np.eye(3, dtype=np.float32)
        toned = cv2.LUT(cv2.transform(soft, mix), self._table)
        rng = np.random.default_rng([self._seed, 8, self._number, frame])
        y, x = rng.integers(0, 64, 2)
        noise = self._noise[y : y + self._view.height, x : x + self._view.width]
        return np.clip(toned.astype(np.int16) + noise, 0, 255).astype(np.uint8)


def _seen(number: int, box: np.ndarray, area: int, shown: np.ndarray) -> SeenPerson:
    """Return a person given the whole body's box (4,) and area in pixels, and the mask (H, W) of what can be seen of it."""
    x, y, width, height = cv2.boundingRect(shown.astype(np.uint8))
    x0, y0, x1, y1 = box.tolist()
    return SeenPerson(number, (x0, y0, x1, y1), float(shown.sum() / max(area, 1)), (x, y, x + width, y + height))


def _tones(camera: Camera) -> np.ndarray:
    """Return the table (1, 256, 3) uint8 of gain, gamma and haze per channel."""
    light = np.linspace(0, 1, 256)[None, :, None] * camera.gain[None, None]
    toned = camera.haze + (1 - camera.haze) * np.clip(light, 0, 1) ** camera.gamma
    return np.round(255 * np.clip(toned, 0, 1)).astype(np.uint8)
