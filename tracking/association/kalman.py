"""Kalman filters of many boxes at once: constant velocity, in pixels and seconds (Bewley et al., ICIP 2016, arXiv:1602.00763).

Centre x, centre y, width and height are four independent filters with a position and a velocity each, so a covariance is three
numbers and no matrix is inverted. All noises are proportional to the box's size, the mean of width and height. The process noise is
white acceleration, integrated over the time between two frames, so that strides and frame rates need no other parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

JITTER = 0.05  # standard deviation of a detected edge, in box sizes (1/20 in DeepSORT)
ACCELERATION = 0.4  # square root of the spectral density of the acceleration, in box sizes / s^1.5
SPEED = 1.0  # standard deviation of the velocity of a new box, in box sizes per second: a walking person's


class Motion(NamedTuple):
    """Filters of T boxes.

    Args:
        mean: (T, 2, 4) float64: positions and velocities of centre x, centre y, width, height.
        cov: (T, 3, 4) float64: variance of the position, covariance with the velocity, variance of the velocity.
    """

    mean: np.ndarray
    cov: np.ndarray

    def boxes(self) -> np.ndarray:
        """Return (T, 4) x0, y0, x1, y1."""
        centre, size = self.mean[:, 0, :2], np.maximum(self.mean[:, 0, 2:], 1.0)
        return np.concatenate([centre - size / 2, centre + size / 2], axis=1)

    def spread(self) -> np.ndarray:
        """Return the standard deviations (T, 2) of the centres, in pixels."""
        return np.sqrt(self.cov[:, 0, :2])


def to_centre(boxes: np.ndarray) -> np.ndarray:
    """Return (N, 4) centre x, centre y, width, height of (N, 4) x0, y0, x1, y1."""
    boxes = boxes.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def sizes(mean: np.ndarray) -> np.ndarray:
    """Return the mean of width and height (T, 1), 1 or more pixels."""
    return np.maximum(mean[:, 0, 2:].mean(1, keepdims=True), 1.0)


def start(boxes: np.ndarray) -> Motion:
    """Return filters of new boxes (N, 4) at rest."""
    position = to_centre(boxes)
    mean = np.stack([position, np.zeros_like(position)], axis=1)  # (N, 2, 4)
    size = np.broadcast_to(sizes(mean), position.shape)
    cov = np.stack([(JITTER * size) ** 2, np.zeros_like(position), (SPEED * size) ** 2], axis=1)
    return Motion(mean, cov)


def predict(motion: Motion, seconds: float) -> Motion:
    """Return the filters some seconds later."""
    noise = np.broadcast_to((ACCELERATION * sizes(motion.mean)) ** 2, motion.mean[:, 0].shape)
    position, velocity = motion.mean[:, 0], motion.mean[:, 1]
    pp, pv, vv = motion.cov[:, 0], motion.cov[:, 1], motion.cov[:, 2]
    mean = np.stack([position + seconds * velocity, velocity], axis=1)
    cov = [
        pp + 2 * seconds * pv + seconds**2 * vv + seconds**3 / 3 * noise,
        pv + seconds * vv + seconds**2 / 2 * noise,
        vv + seconds * noise,
    ]
    return Motion(mean, np.stack(cov, axis=1))


def correct(motion: Motion, boxes: np.ndarray) -> Motion:
    """Return the filters after T boxes (T, 4) were measured."""
    measured = to_centre(boxes)
    pp, pv, vv = motion.cov[:, 0], motion.cov[:, 1], motion.cov[:, 2]
    total = pp + (JITTER * sizes(motion.mean)) ** 2
    gain, speed_gain = pp / total, pv / total
    error = measured - motion.mean[:, 0]
    mean = np.stack([motion.mean[:, 0] + gain * error, motion.mean[:, 1] + speed_gain * error], axis=1)
    cov = np.stack([pp * (1 - gain), pv * (1 - gain), vv - speed_gain * pv], axis=1)
    return Motion(mean, cov)
