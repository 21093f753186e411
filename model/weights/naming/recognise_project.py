"""Recognises the project of a weight file by its tensor names, at any prefix, and renames them to ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from ..wrappings import WORDS, WRAPPERS, is_averaged, is_second, words_of
from .backbone_namings import NAMINGS
from .key_names import Hints, Project, State
from .reid_projects import PROJECTS, bare

TIMM = (  # starts of the first layer's name in timm's models
    r"(patch_embed\.|cls_token$|pos_embed$|conv_stem\.|stem(_\d)?\.|conv1\.(weight|0\.)|features\.conv0\.)"
)


class TranslatedWeights(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, the recognised project, names that are left out.

    Args:
        note: which of several sets of weights these are; empty if there is one.
        hints: what the naming says of the model.
    """

    state: State
    classifiers: dict[int, Tensor]
    project: str
    left_out: list[str]
    note: str = ""
    hints: Hints = Hints()


class Place(NamedTuple):
    """Where a project's tensors are in a file: below `prefix`, which ends with a dot or is empty."""

    name: str
    project: Project
    prefix: str


def translate(state: State) -> TranslatedWeights:
    """Return the tensors of a weight file under our names; the project is recognised by its names."""
    places = _places(state)
    places = [one for one in places if not one.project.is_general] or [*places, *_timm_places(state)]
    place = min(places, key=lambda one: _order(one, state))
    inside = {name.removeprefix(place.prefix): value for name, value in state.items() if name.startswith(place.prefix)}
    outside = [name for name in state if not name.startswith(place.prefix)]
    unused = [name for name in inside if re.match(place.project.unused, name)]
    ours = place.project.rule({name: value for name, value in inside.items() if name not in set(unused)})
    left_out = [*outside, *(place.prefix + name for name in (*unused, *ours.left_out))]
    others = [one.prefix for one in places if one.name == place.name and one.prefix != place.prefix]
    note = _note(place.prefix, others) if is_averaged(place.prefix) else ""
    return TranslatedWeights(ours.state, ours.classifiers, place.name, left_out, note, ours.hints)


def _places(state: State) -> list[Place]:
    """Return the projects and prefixes at which all marks match."""
    found = []
    for name, project in {**PROJECTS, **NAMINGS}.items():
        prefixes = [_prefixes(mark, state) for mark in project.marks]
        found += [Place(name, project, one) for one in prefixes[0] if all(one in others for others in prefixes)]
    return found


def _prefixes(mark: str, names: Iterable[str]) -> list[str]:
    """Return what stands in front of the mark, for each name in which it starts a word; each prefix once."""
    pattern = re.compile(rf"((?:[^.]+\.)*?)(?:{mark})")
    return list(dict.fromkeys(match[1] for match in map(pattern.match, names) if match))


def _order(place: Place, state: State) -> tuple[bool, bool, int, int]:
    """Averaged weights first, then the shortest prefix, then the most tensors."""
    count = sum(name.startswith(place.prefix) for name in state)
    return not is_averaged(place.prefix), is_second(place.prefix), place.prefix.count("."), -count


def _timm_places(state: State) -> list[Place]:
    """Return where timm's names may start: in front of a usual first layer, else behind the usual words of wrappers."""
    counts = {one: sum(name.startswith(one) for name in state) for one in _prefixes(TIMM, state)}
    usual = [one for one, count in counts.items() if 2 * count > len(state) or words_of(one) <= WORDS]
    return [Place("timm", Project((TIMM,), bare), one) for one in usual or [_wrappers(state)]]


def _wrappers(state: State) -> str:
    """Return the words of wrappers that the names start with, of the largest group of names each time."""
    prefix = ""
    while True:
        words = [name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)]
        usual = sorted({word for word in words if word in WRAPPERS}, key=words.count)
        if not usual or all(name.removeprefix(prefix).count(".") == 0 for name in state):
            return prefix
        prefix += f"{usual[-1]}."


def _note(prefix: str, others: list[str]) -> str:
    return f"the averaged weights below '{prefix}'" + (
        f", not those below {', '.join(map(repr, others))}" if others else ""
    )
