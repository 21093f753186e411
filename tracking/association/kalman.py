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
        centre, half = self.mean[:, 0, :2], np.maximum(self.mean[:, 0, 2:], 1.0) / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def spread(self) -> np.ndarray:
        """Return the standard deviations (T, 2) of the centres, in pixels."""
        return np.sqrt(self.cov[:, 0, :2])


def to_centre(boxes: np.ndarray) -> np.ndarray:
    """Return (N, 4) centre x, centre y, width, height of (N, 4) x0, y0, x1, y1."""
    boxes = np.asarray(boxes, np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def sizes(mean: np.ndarray) -> np.ndarray:
    """Return the mean of width and height (T, 1), 1 or more pixels."""
    return np.maximum((mean[:, 0, 2:3] + mean[:, 0, 3:]) / 2, 1.0)


def start(boxes: np.ndarray) -> Motion:
    """Return filters of new boxes (N, 4) at rest."""
    mean, cov = np.zeros((len(boxes), 2, 4)), np.zeros((len(boxes), 3, 4))
    mean[:, 0] = to_centre(boxes)
    size = sizes(mean)  # (N, 1)
    cov[:, 0], cov[:, 2] = (JITTER * size) ** 2, (SPEED * size) ** 2
    return Motion(mean, cov)


def predict(motion: Motion, seconds: float) -> Motion:
    """Return the filters some seconds later."""
    noise = (ACCELERATION * sizes(motion.mean)) ** 2  # (T, 1)
    pp, pv, vv = motion.cov[:, 0], motion.cov[:, 1], motion.cov[:, 2]
    mean, cov = motion.mean.copy(), np.empty_like(motion.cov)
    mean[:, 0] += seconds * mean[:, 1]
    cov[:, 0] = pp + 2 * seconds * pv + seconds**2 * vv + seconds**3 / 3 * noise
    cov[:, 1] = pv + seconds * vv + seconds**2 / 2 * noise
    cov[:, 2] = vv + seconds * noise
    return Motion(mean, cov)


def correct(motion: Motion, boxes: np.ndarray) -> Motion:
    """Return the filters after T boxes (T, 4) were measured."""
    measured = to_centre(boxes)
    pp, pv, vv = motion.cov[:, 0], motion.cov[:, 1], motion.cov[:, 2]
    total = pp + (JITTER * sizes(motion.mean)) ** 2
    gain, speed_gain = pp / total, pv / total
    error, left = measured - motion.mean[:, 0], 1 - gain
    mean, cov = motion.mean.copy(), np.empty_like(motion.cov)
    mean[:, 0] += gain * error
    mean[:, 1] += speed_gain * error
    cov[:, 0], cov[:, 1], cov[:, 2] = pp * left, pv * left, vv - speed_gain * pv
    return Motion(mean, cov)
