"""Who walks where and when in a film: seeded paths of people through the views of several cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPEEDS = (0.7, 1.1)  # body heights per second: 1.2 to 1.9 m/s at a height of 1.7 m
DEPTH = 5.0  # body heights between the far and the near end of the floor
_MARGIN = 0.28  # body heights outside the picture at which a walk starts and ends
_STRIDE = 0.8  # body heights per cycle of two steps
_TURN = 0.25  # seconds before and after a corner, in which somebody turns
_PAUSES, _U_TURNS, _COME_BACK = 0.3, 0.15, 0.35  # probabilities
_AWAY = (1.5, 4.0)  # seconds between two views
_LEAST = 3.0  # seconds before the end of the film in which nobody starts a walk


@dataclass(frozen=True)
class View:
    """Floor of a camera's picture: where feet stand, and how high people are there.

    Args:
        height, width: of the picture in pixels.
    """

    height: int
    width: int

    def feet(self, depth: float) -> float:
        """Return the y of the feet in pixels; depth 0 = far, 1 = near."""
        return self.height * (0.56 + 0.4 * depth)

    def body(self, depth: float) -> float:
        """Return the body height in pixels."""
        return self.height * (0.3 + 0.26 * depth)


@dataclass(frozen=True)
class StandingPlace:
    """Where somebody is at one moment.

    Args:
        x: of the body axis, in pixels; depth: 0 = far, 1 = near.
        yaw: in radians, 0 faces the camera; phase: of the walking cycle, in radians; pace: 0 = stands, 1 = walks.
    """

    x: float
    depth: float
    yaw: float
    phase: float
    pace: float


@dataclass(frozen=True)
class Walk:
    """One visit of a person to a camera's view: straight lines at constant speed between corners.

    Args:
        person, camera: numbers from 0.
        times: (K,) seconds of the corners, ascending; xs: (K,) pixels; depths: (K,).
        distances: (K,) body heights walked so far; headings: (K - 1,) yaw of each line, in radians.
    """

    person: int
    camera: int
    times: np.ndarray
    xs: np.ndarray
    depths: np.ndarray
    distances: np.ndarray
    headings: np.ndarray

    def at(self, seconds: float) -> StandingPlace | None:
        """Return the place at a time of the film, None before the first and after the last corner."""
        if not self.times[0] <= seconds <= self.times[-1]:
            return None
        phase = 2 * np.pi * np.interp(seconds, self.times, self.distances) / _STRIDE
        walks = np.diff(self.distances) > 0
        return StandingPlace(
            float(np.interp(seconds, self.times, self.xs)),
            float(np.interp(seconds, self.times, self.depths)),
            self._between_corners(seconds, self.headings),
            float(phase) + self.person,
            self._between_corners(seconds, walks.astype(float)),
        )

    def _between_corners(self, seconds: float, values: np.ndarray) -> float:
        """Return the value (K - 1,) of the present line; it changes within some tenths of a second around a corner."""
        starts = np.minimum(self.times[:-1] + _TURN, (self.times[:-1] + self.times[1:]) / 2)
        ends = np.maximum(self.times[1:] - _TURN, (self.times[:-1] + self.times[1:]) / 2)
        return float(np.interp(seconds, np.stack([starts, ends], 1).ravel(), np.repeat(values, 2)))


def make_walks(num_people: int, num_cameras: int, seconds: float, view: View, seed: int) -> list[Walk]:
    """Return the walks of a film.

    Everybody walks from camera to camera, sometimes comes back into the same one, stops or turns round; of four people,
    the second accompanies the first, side by side.

    Args:
        seconds: length of the film.
    """
    rng = np.random.default_rng([seed, 5])
    walks: list[Walk] = []
    for person in range(num_people):
        if person % 4 == 1:
            walks += [_beside(walk, person, view) for walk in walks if walk.person == person - 1]
            continue
        camera, now = person % num_cameras, rng.uniform(0, 4)
        while now < seconds - _LEAST:
            walk = _draw_walk(rng, person, camera, now, view)
            walks.append(walk)
            now = float(walk.times[-1]) + rng.uniform(*_AWAY)
            if rng.random() >= _COME_BACK:
                camera = (camera + int(rng.integers(1, max(2, num_cameras)))) % num_cameras
    return walks


def _draw_walk(rng: np.random.Generator, person: int, camera: int, start: float, view: View) -> Walk:
    """Draw a walk across the view, or into its middle and back."""
    depths = np.array([rng.uniform(0, 0.5), rng.uniform(0.5, 1)])[rng.permutation(2)]
    speed = rng.uniform(*SPEEDS)
    sides = [-1, 1] if rng.random() < 0.5 else [1, -1]
    if rng.random() < _U_TURNS:
        sides[1] = sides[0]
    middle = view.width * rng.uniform(0.3, 0.7)
    outside = [_outside(view, side, depth) for side, depth in zip(sides, depths)]
    share = abs(middle - outside[0]) / max(abs(middle - outside[0]) + abs(outside[1] - middle), 1e-9)
    between = depths[0] + share * (depths[1] - depths[0])
    xs, waits = [outside[0], middle, outside[1]], [0.0, 0.0]
    corners = [depths[0], between, depths[1]]
    if rng.random() < _PAUSES:
        xs, corners = [*xs[:2], *xs[1:]], [*corners[:2], *corners[1:]]
        waits = [0.0, rng.uniform(0.8, 2.0), 0.0]
    return _walk(person, camera, start, view, np.array(xs), np.array(corners), np.array(waits), speed)


def _outside(view: View, side: int, depth: float) -> float:
    margin = _MARGIN * view.body(depth)
    return -margin if side < 0 else view.width + margin


def _walk(
    person: int,
    camera: int,
    start: float,
    view: View,
    xs: np.ndarray,
    depths: np.ndarray,
    waits: np.ndarray,
    speed: float,
) -> Walk:
    """Return the walk through corners (K,); waits: (K - 1,) seconds of standing; speed: body heights per second."""
    across = np.diff(xs) / (view.body(0.0) / 2 + np.array([view.body(depth) for depth in depths[1:]]) / 2)
    towards = DEPTH * np.diff(depths)
    lengths = np.hypot(across, towards)  # (K - 1,) body heights
    headings = np.arctan2(across, towards)
    for line in range(1, len(headings)):
        if not lengths[line]:
            headings[line] = headings[line - 1]  # who stands keeps the heading
    times = start + np.concatenate([[0.0], np.cumsum(lengths / speed + waits)])
    return Walk(person, camera, times, xs, depths, np.concatenate([[0.0], np.cumsum(lengths)]), np.unwrap(headings))


def _beside(walk: Walk, person: int, view: View) -> Walk:
    """Return the walk of somebody who accompanies another: somewhat behind, and nearer to or farther from the camera."""
    depths = np.clip(walk.depths + np.where(walk.depths < 0.5, 0.16, -0.16), 0, 1)
    return Walk(person, walk.camera, walk.times + 0.35, walk.xs, depths, walk.distances, walk.headings)
