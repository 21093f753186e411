"""Clothes of synthetic people: fabrics with patterns, hair, bags."""

from __future__ import annotations

import numpy as np

from .drawing import Frame, Paint, Sketch, shade
from .identity import Colour, SyntheticPerson


def fabric(sketch: Sketch, frame: Frame, person: SyntheticPerson, sleeve: bool = False) -> Paint:
    """Return the paint of a person's top: a colour, or a picture of the pattern around the body."""
    open_front = person.top in ("jacket", "coat")
    rows = (np.arange(sketch.mask.shape[0])[:, None] - sketch.top) / sketch.scale  # (H, 1) height on the body
    if person.pattern == "stripes":
        second = rows * 26 % 1 < 0.42
    elif person.pattern == "block":
        second = rows < 0.3
    elif sleeve or (person.pattern == "plain" and not open_front):
        return person.top_colour
    else:
        second = _figure(person.pattern, rows, _angles(sketch, frame))
    if open_front and not sleeve:
        second = np.abs(_angles(sketch, frame)) < 0.42  # the inner garment shows instead
    colours = np.array([person.top_colour, person.second_colour], np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours[second.astype(np.intp)], sketch.image.shape))


def _angles(sketch: Sketch, frame: Frame) -> np.ndarray:
    """Return the angle around the body, (1, W), for each column of the picture; 0 is the middle of the chest."""
    columns = np.arange(sketch.mask.shape[1])[None] - sketch.centre
    angle = np.arcsin(np.clip(columns / (sketch.scale * frame.half_width(0.12, 0.08)), -1, 1)) - frame.yaw
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _figure(pattern: str, rows: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the mask of a pattern's second colour, (H, W) or a shape that broadcasts to it."""
    if pattern == "bars":
        return angle * 2.6 % 1 < 0.45
    if pattern == "checks":
        return (rows * 15 % 1 < 0.5) ^ (angle * 1.6 % 1 < 0.5)
    if pattern == "logo":
        return (np.abs(angle) < 0.55) & (np.abs(rows - 0.29) < 0.045)
    return np.zeros((1, 1), bool)


def draw_head(sketch: Sketch, frame: Frame, person: SyntheticPerson) -> None:
    """Draw the face, and the hair on the top and the back of the head."""
    size, hair = person.head, person.hair
    facing = np.cos(frame.yaw)
    if person.haircut == "long" and facing > -0.2:
        sketch.limb(frame, (0, 0.08, -0.02), (0, 0.185, -0.03), 0.058 * size, 0.062 * size, hair)
    _ellipse(sketch, frame, (0, 0.074, 0), 0.056 * size, 0.07 * size, person.skin)
    if person.haircut != "bald":
        crown = shade(person.bag_colour, 0.9) if person.haircut == "cap" else hair
        _hair(sketch, frame, person, crown)
    if person.haircut == "bun":
        _ellipse(sketch, frame, (0, 0.03, -0.06), 0.027 * size, 0.027 * size, hair)
    if person.haircut == "long" and facing <= -0.2:
        sketch.limb(frame, (0, 0.06, -0.03), (0, 0.2, -0.04), 0.056 * size, 0.06 * size, hair)
    if person.haircut == "cap" and facing > -0.3:
        sketch.limb(frame, (-0.025, 0.042, 0.05), (0.025, 0.042, 0.05), 0.012, 0.012, shade(person.bag_colour, 0.7))
    if person.top == "hoodie":
        sketch.limb(frame, (-0.04, 0.155, -0.02), (0.04, 0.155, -0.02), 0.026, 0.026, shade(person.top_colour, 0.86))


def _hair(sketch: Sketch, frame: Frame, person: SyntheticPerson, colour: Colour) -> None:
    """Draw hair on the head's ellipse outside the face: above the forehead and behind the ears."""
    (x, y), radius = sketch.pixel(0, 0.07), 0.063 * person.head * sketch.scale
    height, width = sketch.mask.shape
    v = (np.arange(height)[:, None] - y) / (0.076 * person.head * sketch.scale)
    u = (np.arange(width)[None] - x) / radius
    angle = np.arcsin(np.clip(u, -1, 1)) - frame.yaw
    behind = np.cos(angle) < 0.1
    covered = (u**2 + v**2 < 1) & ((v < -0.3) | (behind & (v < 0.55)))
    sketch.image[covered] = colour
    sketch.mask[covered] = 255


def _ellipse(
    sketch: Sketch, frame: Frame, centre: tuple[float, float, float], a: float, b: float, colour: Colour
) -> None:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x, y = sketch.pixel(*frame.project(centre))
    outline = np.stack([x + a * sketch.scale * np.cos(turn), y + b * sketch.scale * np.sin(turn)], 1)
    sketch.fill([outline], colour)


def straps(sketch: Sketch, frame: Frame, person: SyntheticPerson) -> None:
    """Draw a backpack's straps over the chest."""
    if np.cos(frame.yaw) < 0.2:
        return
    for side in (-1, 1):
        x = 0.07 * side * person.width
        sketch.limb(frame, (x, 0.17, 0.05), (x * 1.15, 0.35, 0.07), 0.011, 0.011, shade(person.bag_colour, 0.85))


def draw_bag(sketch: Sketch, frame: Frame, person: SyntheticPerson) -> None:
    """Draw the bag: on the back, at the right hip with its strap, or in the left hand."""
    colour = person.bag_colour
    if person.bag == "backpack":
        sketch.limb(frame, (0, 0.25, -0.11), (0, 0.38, -0.11), 0.072, 0.08, colour)
        if np.cos(frame.yaw) < 0:
            sketch.limb(frame, (-0.04, 0.36, -0.13), (0.04, 0.36, -0.13), 0.03, 0.03, shade(colour, 0.8))
    elif person.bag == "shoulder":
        front = 0.07 if np.cos(frame.yaw) > 0 else -0.07
        sketch.limb(frame, (0.08, 0.18, front), (-0.12, 0.46, front), 0.01, 0.01, shade(colour, 0.8))
        sketch.limb(frame, (-0.14, 0.48, -0.03), (-0.14, 0.5, 0.06), 0.055, 0.055, colour)
    elif person.bag == "handbag":
        sketch.limb(frame, (0.16, 0.5, 0.04), (0.16, 0.56, 0.04), 0.009, 0.009, shade(colour, 0.7))
        sketch.limb(frame, (0.16, 0.6, 0.0), (0.16, 0.6, 0.08), 0.042, 0.042, colour)
