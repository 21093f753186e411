"""Draws a synthetic person: a walking body of rounded limbs, rotated by its yaw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .clothing import draw_bag, draw_head, fabric, straps
from .drawing import Frame, Sketch
from .identity import SyntheticPerson


@dataclass(frozen=True)
class Pose:
    """Pose of a person in one picture.

    Args:
        yaw: turn about the vertical, in radians; 0 faces the viewer, pi shows the back.
        phase: of the walking cycle, in radians.
        stride: swing of the legs, in radians; arms: of the arms.
        tilt: how much nearer things appear lower, for a camera that looks down.
    """

    yaw: float
    phase: float
    stride: float
    arms: float
    tilt: float


_SLEEVES = {"shirt": 0.5, "sweater": 1.0, "jacket": 1.0, "coat": 1.0, "hoodie": 1.0}  # share of the arm that is covered
_HEMS = {"shirt": 0.03, "sweater": 0.03, "jacket": 0.05, "coat": 0.24, "hoodie": 0.05}  # below the hip
_ROOM = {"shirt": 1.0, "sweater": 1.04, "jacket": 1.1, "coat": 1.1, "hoodie": 1.1}  # width of the garment


def draw_person(sketch: Sketch, person: SyntheticPerson, pose: Pose) -> None:
    """Draw the person into the sketch, far parts first."""
    frame = Frame(pose.yaw, pose.tilt)
    steps: list[tuple[float, Callable[[], None]]] = []  # (depth, drawing): painted from far to near
    for side in (-1, 1):
        depth = frame.depth(0.1 * side, 0.0)
        steps.append((0.3 * depth - 0.08, partial(_draw_leg, sketch, frame, person, pose, side)))
        steps.append((depth + 1e-3, partial(_draw_arm, sketch, frame, person, pose, side)))
    steps.append((0.0, partial(_draw_torso, sketch, frame, person)))
    steps.append((0.02, partial(draw_head, sketch, frame, person)))
    steps.append((frame.depth(*_BAG_AT[person.bag]), partial(draw_bag, sketch, frame, person)))
    for _, draw in sorted(steps, key=lambda step: step[0]):
        draw()


_BAG_AT = {"none": (0.0, 0.0), "backpack": (0.0, -0.12), "shoulder": (-0.14, 0.03), "handbag": (0.16, 0.05)}


def _draw_leg(sketch: Sketch, frame: Frame, person: SyntheticPerson, pose: Pose, side: int) -> None:
    """Draw thigh, shin and shoe; skin where shorts or a skirt end."""
    swing = pose.stride * np.sin(pose.phase + (np.pi if side > 0 else 0))
    bend = pose.stride * max(0.0, np.cos(pose.phase + (np.pi if side > 0 else 0))) * 1.2
    length, x = (0.955 - person.legs) / 2, 0.048 * side * person.width
    hip = (x, person.legs, 0.0)
    knee = (x, person.legs + length * np.cos(swing), length * np.sin(swing))
    shin = swing - bend
    ankle = (x, knee[1] + length * np.cos(shin), knee[2] + length * np.sin(shin))
    cloth, skin = person.bottom_colour, person.skin
    thick = 0.5 + 0.5 * person.width
    sketch.limb(frame, knee, ankle, 0.036 * thick, 0.026 * thick, cloth if person.bottom == "trousers" else skin)
    sketch.limb(frame, hip, knee, 0.058 * thick, 0.042 * thick, skin if person.bottom == "skirt" else cloth)
    toe = (x * 1.25, ankle[1] + 0.028, ankle[2] + 0.075)
    heel = (x, ankle[1] + 0.024, ankle[2] - 0.012)
    sketch.limb(frame, heel, toe, 0.023, 0.019, person.shoes)


def _draw_arm(sketch: Sketch, frame: Frame, person: SyntheticPerson, pose: Pose, side: int) -> None:
    """Draw upper arm, forearm and hand, with the sleeve over as much of it as the garment has."""
    swing = -pose.arms * np.sin(pose.phase + (np.pi if side > 0 else 0))
    room, x = _ROOM[person.top], 0.104 * side * person.width
    shoulder = (x, 0.2, 0.0)
    elbow = (x * 1.25, 0.2 + 0.15 * np.cos(swing), 0.15 * np.sin(swing))
    fore = swing + 0.25 + 0.3 * pose.arms
    hand = (x * 1.22, elbow[1] + 0.145 * np.cos(fore), elbow[2] + 0.145 * np.sin(fore))
    long = _SLEEVES[person.top] == 1.0
    sketch.limb(frame, hand, hand, 0.021, 0.021, person.skin)
    cloth = fabric(sketch, frame, person, sleeve=True)
    sketch.limb(frame, elbow, hand, 0.026 * room, 0.021 * room, cloth if long else person.skin)
    sketch.limb(frame, shoulder, elbow, 0.034 * room, 0.028 * room, cloth)


def _draw_torso(sketch: Sketch, frame: Frame, person: SyntheticPerson) -> None:
    """Draw the skirt, then the garment from the neck to its hem."""
    wide, room, hip = person.width, _ROOM[person.top], person.legs
    waist = 0.088 * person.belly * (0.6 + 0.4 * wide)
    if person.bottom == "skirt":
        outline = [(hip - 0.06, waist, 0.07), (hip + 0.05, 0.11, 0.09), (hip + 0.22, 0.13, 0.12)]
        sketch.body(frame, outline, person.bottom_colour)
    else:
        outline = [(hip - 0.06, waist, 0.07), (hip + 0.05, 0.1 * (0.5 + 0.5 * wide), 0.075)]
        sketch.body(frame, outline, person.bottom_colour)
    sketch.limb(frame, (0, 0.12, 0), (0, 0.18, 0), 0.034, 0.04, person.skin)
    hem = hip + _HEMS[person.top]
    outline = [
        (0.15, 0.04, 0.04),
        (0.17, 0.08 * wide, 0.055),
        (0.19, 0.108 * wide, 0.068),
        (0.23, 0.118 * wide, 0.078),
        (0.32, 0.108 * wide * room, 0.082 * person.belly),
        (hip - 0.1, waist * room, 0.085 * person.belly * room),
        (hem, max(waist, 0.096) * room * (1.1 if person.top == "coat" else 1.0), 0.085 * room * person.belly),
    ]
    sketch.body(frame, outline, fabric(sketch, frame, person))
    if person.bag == "backpack":
        straps(sketch, frame, person)
