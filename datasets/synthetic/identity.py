"""Synthetic identities: body, hair and clothes of a person, equal in all pictures."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

Colour = tuple[int, int, int]  # RGB, 0-255

_TOPS = (
    [(28, 28, 32), (72, 74, 80), (135, 137, 140), (232, 232, 228), (34, 42, 84), (52, 92, 172), (152, 186, 220)]
    + [(182, 42, 46), (112, 32, 42), (52, 112, 72), (98, 102, 62), (206, 186, 150), (108, 78, 56), (222, 190, 62)]
    + [(216, 122, 52), (222, 152, 172), (112, 72, 142), (42, 132, 136)]
)
_BOTTOMS = (
    [(30, 30, 34), (78, 80, 84), (46, 62, 104), (84, 112, 154), (142, 168, 198)]
    + [(190, 172, 138), (104, 80, 60), (92, 96, 64), (226, 224, 218)]
    + [(140, 140, 142), (128, 44, 50), (38, 42, 62)]
)
_SHOES = [(26, 26, 28), (230, 230, 228), (112, 78, 50), (120, 122, 124), (176, 46, 48), (58, 86, 150)]
_HAIR = [(24, 20, 18), (58, 40, 28), (104, 72, 44), (182, 148, 92), (150, 148, 146), (132, 60, 34)]
_SKIN = [(246, 214, 186), (226, 180, 142), (194, 142, 104), (146, 98, 68), (92, 62, 46)]

TOPS = ("shirt", "sweater", "jacket", "coat", "hoodie")
BOTTOMS = ("trousers", "shorts", "skirt")
PATTERNS = ("plain", "plain", "plain", "stripes", "bars", "checks", "block", "logo")
HAIRCUTS = ("short", "short", "long", "bun", "bald", "cap")
BAGS = ("none", "none", "backpack", "shoulder", "handbag")


@dataclass(frozen=True)
class SyntheticPerson:
    """One identity. Lengths are fractions of the body height, colours are RGB.

    Args:
        width: shoulder width relative to the average; belly: the same of the waist; legs: height of the hip, from the top.
    """

    width: float
    belly: float
    legs: float
    head: float
    skin: Colour
    haircut: str
    hair: Colour
    top: str
    top_colour: Colour
    pattern: str
    second_colour: Colour
    bottom: str
    bottom_colour: Colour
    shoes: Colour
    bag: str
    bag_colour: Colour


def make_people(number: int, seed: int) -> list[SyntheticPerson]:
    """Draw `number` different people; every second one shares most clothes with an earlier one."""
    rng = np.random.default_rng([seed, 1])
    people: list[SyntheticPerson] = []
    for place in range(number):
        person = _draw(rng)
        if place % 2:
            person = _resemble(rng, people[rng.integers(place)], person)
        people.append(person)
    return people


_CHANGEABLE = (
    ("top_colour",),
    ("pattern", "second_colour"),
    ("bottom_colour",),
    ("haircut", "hair"),
    ("bag", "bag_colour"),
    ("shoes",),
    ("top",),
    ("bottom",),
)


def _resemble(rng: np.random.Generator, model: SyntheticPerson, other: SyntheticPerson) -> SyntheticPerson:
    """Return `model` with the body and three or four clothes of `other`."""
    chosen = rng.permutation(len(_CHANGEABLE))[: rng.integers(3, 5)]
    names = {"width", "belly", "legs", "head", "skin"}.union(*(_CHANGEABLE[place] for place in chosen))
    return replace(model, **{item.name: getattr(other, item.name) for item in fields(other) if item.name in names})


def _draw(rng: np.random.Generator) -> SyntheticPerson:
    return SyntheticPerson(
        width=rng.uniform(0.84, 1.2),
        belly=rng.uniform(0.78, 1.15),
        legs=rng.uniform(0.475, 0.53),
        head=rng.uniform(0.92, 1.1),
        skin=_near(rng, _SKIN, 8),
        haircut=_pick(rng, HAIRCUTS),
        hair=_near(rng, _HAIR, 10),
        top=_pick(rng, TOPS),
        top_colour=_near(rng, _TOPS, 14),
        pattern=_pick(rng, PATTERNS),
        second_colour=_near(rng, _TOPS, 14),
        bottom=_pick(rng, ("trousers", "trousers", *BOTTOMS)),
        bottom_colour=_near(rng, _BOTTOMS, 12),
        shoes=_near(rng, _SHOES, 10),
        bag=_pick(rng, BAGS),
        bag_colour=_near(rng, _TOPS, 14),
    )


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]


def _near(rng: np.random.Generator, palette: list[Colour], spread: int) -> Colour:
    colour = np.array(palette[rng.integers(len(palette))]) + rng.integers(-spread, spread + 1, 3)
    red, green, blue = np.clip(colour, 8, 248).tolist()
    return red, green, blue
