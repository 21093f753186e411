"""Boxes of a film as a detector would give them: some missed, doubled, shifted or false, at stated rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreid.datasets.synthetic.film import FilmPlan
from vitreid.datasets.synthetic.film_truth import FilmBox
from vitreid.tracking.detections import Detections


@dataclass(frozen=True)
class NoiseRates:
    """How wrong the boxes are.

    Args:
        missed: probability that the box of a person in full view is missing; it rises to 1 as less of the person is visible.
        blind: probability per person and second that a stretch of missing boxes starts; blind_seconds: its length, from and to.
        doubled: probability of a second box of the same person.
        shifted: standard deviation of each centre and size, in box heights.
        false: boxes of nobody per frame, mean of a Poisson distribution.
        score: mean and standard deviation of the confidence of a person in full view; of false boxes: false_score.
    """

    missed: float = 0.1
    blind: float = 0.1
    blind_seconds: tuple[float, float] = (0.3, 1.0)
    doubled: float = 0.04
    shifted: float = 0.03
    false: float = 0.15
    score: tuple[float, float] = (0.85, 0.1)
    false_score: tuple[float, float] = (0.4, 0.15)


def noisy_boxes(truth: list[FilmBox], plan: FilmPlan, rates: NoiseRates, rng: np.random.Generator) -> list[Detections]:
    """Return the detections of each frame of a camera: the visible parts of the people, with errors."""
    frames: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(plan.num_frames)]
    blind_until: dict[int, float] = {}
    for one in sorted(truth):
        height = one.seen[3] - one.seen[1]
        if rng.random() < rates.blind / plan.fps:
            blind_until[one.person] = one.frame + rng.uniform(*rates.blind_seconds) * plan.fps
        is_missed = rng.random() < rates.missed + (1 - rates.missed) * (1 - one.visible)
        for _ in range(1 + (rng.random() < rates.doubled)):
            box, score = _shifted(one, height, rates, rng), rng.normal(*rates.score) * (0.4 + 0.6 * one.visible)
            if not is_missed and one.frame >= blind_until.get(one.person, 0):
                frames[one.frame].append((box, score))
    for found in frames:
        found += [_false(plan, rates, rng) for _ in range(rng.poisson(rates.false))]
    return [
        Detections.of(np.array([box for box, _ in found]), np.clip([score for _, score in found], 0.01, 1))
        for found in frames
    ]


def _shifted(one: FilmBox, height: float, rates: NoiseRates, rng: np.random.Generator) -> np.ndarray:
    x0, y0, x1, y1 = one.seen
    dx, dy, dw, dh = rng.normal(0, rates.shifted * height, 4)
    centre, size = np.array([(x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy]), np.array([x1 - x0 + dw, y1 - y0 + dh])
    size = np.maximum(size, 8)
    return np.concatenate([centre - size / 2, centre + size / 2])


def _false(plan: FilmPlan, rates: NoiseRates, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return a box of nobody, of a person's shape, and its confidence."""
    height = rng.uniform(0.2, 0.6) * plan.size[0]
    corner = rng.uniform(0, 1, 2) * (plan.size[1], plan.size[0] - height)
    return np.concatenate([corner, corner + (0.4 * height, height)]), rng.normal(*rates.false_score)
