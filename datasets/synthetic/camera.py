"""Synthetic cameras: viewpoint, background, colours, noise, and occlusions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .body import Pose, draw_person
from .drawing import Sketch
from .identity import SyntheticPerson

_OVERSAMPLING = 2


@dataclass(frozen=True)
class Camera:
    """One camera: viewpoint, background, and image degradation.

    Args:
        yaw: the turn in which it mostly sees people, in radians; tilt: how far it looks down.
        detail: its resolution, as a share of the picture's size.
        gain: (3,) factors of red, green and blue; gamma; haze: light added to black, in 0-1; colour: saturation.
        blur: in pixels; noise: standard deviation, in 0-1; quality: of the JPEG.
        backdrop: (H, W, 3) uint8 panorama.
    """

    yaw: float
    tilt: float
    detail: float
    gain: np.ndarray
    gamma: float
    haze: float
    colour: float
    blur: float
    noise: float
    quality: int
    backdrop: np.ndarray


def make_cameras(number: int, seed: int) -> list[Camera]:
    """Draw `number` cameras; their viewpoints are spread around the people, their exposures from dark to bright."""
    rng = np.random.default_rng([seed, 2])
    exposures = np.linspace(0.75, 1.2, number)[rng.permutation(number)]
    return [_draw_camera(rng, 2 * np.pi * place / number, exposures[place]) for place in range(number)]


def _draw_camera(rng: np.random.Generator, yaw: float, exposure: float) -> Camera:
    return Camera(
        yaw=yaw,
        tilt=rng.uniform(0.1, 0.4),
        detail=rng.uniform(0.4, 0.9),
        gain=exposure * np.exp(rng.normal(0, 0.11, 3)),
        gamma=rng.uniform(0.8, 1.3),
        haze=rng.uniform(0, 0.12),
        colour=rng.uniform(0.5, 1.1),
        blur=rng.uniform(0.2, 1.0),
        noise=rng.uniform(0.005, 0.025),
        quality=int(rng.integers(45, 90)),
        backdrop=_draw_backdrop(rng),
    )


def _draw_backdrop(rng: np.random.Generator, size: int = 640) -> np.ndarray:
    """Draw a wall above a floor, with boxes, lines and stains."""
    wall, floor = (_muted(rng, 70, 200) for _ in range(2))
    horizon = int(size * rng.uniform(0.3, 0.55))
    image = np.empty((size, size, 3), np.float32)
    image[:horizon], image[horizon:] = wall, floor
    stains = rng.normal(0, 12, (24, 24, 1)) + rng.normal(0, 4, (24, 24, 3))
    image += cv2.resize(stains.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(14):  # windows, doors, posters, shop fronts
        x, y = int(rng.integers(size)), int(rng.integers(horizon))
        corner = (x + int(rng.integers(20, 110)), min(horizon, y + int(rng.integers(20, 160))))
        cv2.rectangle(image, (x, y), corner, _muted(rng, 30, 230).tolist(), -1 if rng.random() < 0.7 else 5)
    for _ in range(10):  # joints and markings on the floor
        ends = [(int(rng.integers(-size, 2 * size)), int(rng.integers(horizon, size))) for _ in range(2)]
        cv2.line(image, ends[0], ends[1], _muted(rng, 60, 220).tolist(), int(rng.integers(1, 9)))
    return image


def _muted(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Draw a colour of walls and streets: mostly grey."""
    return np.clip(rng.integers(low, high) + rng.normal(0, 16, 3), 0, 255).astype(int)


def photograph(
    camera: Camera,
    person: SyntheticPerson,
    others: list[SyntheticPerson],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Take one picture of a person.

    Args:
        others: people who may pass by.
        size: (height, width) in pixels.
    Returns:
        (height, width, 3) uint8 RGB.
    """
    height, width = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
    image = _background(camera, (height, width), rng)
    if others and rng.random() < 0.2:
        _draw_passer_by(image, camera, others[rng.integers(len(others))], rng)
    scale = height * rng.uniform(0.84, 1.0)
    top = height * rng.uniform(-0.03, 0.14)
    sketch = Sketch(image, width * (0.5 + rng.uniform(-0.13, 0.13)), top, scale)
    draw_person(sketch, person, _draw_pose(rng, camera))
    light_figure(sketch, rng)
    if rng.random() < 0.15:
        _occlude(image, rng)
    return _expose(camera, image, size, rng)


def _draw_pose(rng: np.random.Generator, camera: Camera) -> Pose:
    yaw = camera.yaw + rng.normal(0, 0.4) + (np.pi if rng.random() < 0.2 else 0.0)
    return Pose(yaw, rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.6), camera.tilt)


def _background(camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cut a piece out of the panorama."""
    top = int(rng.integers(0, camera.backdrop.shape[0] - size[0]))
    left = int(rng.integers(0, camera.backdrop.shape[1] - size[1]))
    return camera.backdrop[top : top + size[0], left : left + size[1]].copy()


def _draw_passer_by(image: np.ndarray, camera: Camera, person: SyntheticPerson, rng: np.random.Generator) -> None:
    """Draw another person at the edge, further away."""
    height, width = image.shape[:2]
    scale = height * rng.uniform(0.6, 0.85)
    centre = width * (rng.uniform(-0.05, 0.12) if rng.random() < 0.5 else rng.uniform(0.88, 1.05))
    draw_person(Sketch(image, centre, height * rng.uniform(0.02, 0.2), scale), person, _draw_pose(rng, camera))


def light_figure(sketch: Sketch, rng: np.random.Generator) -> None:
    """Make the figure round, wrinkled and lit from one side."""
    height, width = sketch.mask.shape
    inside = cv2.distanceTransform(sketch.mask, cv2.DIST_L2, 3)
    light = 0.8 + 0.2 * np.minimum(inside / (0.035 * sketch.scale), 1)
    light += cv2.resize(rng.normal(0, 0.07, (24, 12)).astype(np.float32), (width, height))
    light += rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, width, dtype=np.float32)
    lit = sketch.image * light[..., None]
    np.copyto(sketch.image, np.clip(lit, 0, 255).astype(np.uint8), where=sketch.mask[..., None] > 0)


def _occlude(image: np.ndarray, rng: np.random.Generator) -> None:
    """Put a pole, a box or a bush in front."""
    height, width = image.shape[:2]
    colour = _muted(rng, 30, 200).tolist()
    kind = rng.integers(3)
    if kind == 0:
        x, half = int(rng.uniform(0.15, 0.85) * width), int(rng.uniform(0.03, 0.09) * width)
        cv2.rectangle(image, (x - half, 0), (x + half, height), colour, -1)
    elif kind == 1:
        left = int(rng.uniform(-0.3, 0.7) * width)
        top = int(rng.uniform(0.6, 0.85) * height)
        cv2.rectangle(image, (left, top), (left + int(rng.uniform(0.4, 0.9) * width), height), colour, -1)
    else:
        side = rng.uniform(0, 1)
        for _ in range(40):
            x, y = rng.normal(side, 0.16) * width, rng.uniform(0.62, 1.05) * height
            green = (int(rng.integers(20, 80)), int(rng.integers(70, 140)), int(rng.integers(20, 70)))
            cv2.circle(image, (int(x), int(y)), int(rng.uniform(0.02, 0.07) * height), green, -1)


def _expose(camera: Camera, image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Apply the camera's colours, blur and noise to the drawn scene."""
    small = (max(8, round(size[1] * camera.detail)), max(16, round(size[0] * camera.detail)))
    light: np.ndarray = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    blur = camera.blur * rng.uniform(0.6, 1.4)
    light = cv2.GaussianBlur(light, (0, 0), max(0.1, blur))
    grey = light.mean(2, keepdims=True)
    light = grey + camera.colour * (light - grey)
    light = np.clip(light * np.float32(camera.gain * rng.uniform(0.85, 1.15)), 0, 1) ** np.float32(camera.gamma)
    light = camera.haze + (1 - camera.haze) * light + camera.noise * rng.standard_normal(light.shape, np.float32)
    pixels = np.clip(light * 255, 0, 255).astype(np.uint8)
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC)
