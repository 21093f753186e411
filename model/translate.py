"""Names of other projects' tensors -> ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = dict[str, Tensor]
NET = "backbone.net."
SIE_TABLE = "backbone.sie.table"
BRANCH = re.compile(r"(bottleneck|classifier)(?:_(\d+))?\.(\w+)")


class Translated(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, and the project the names came from."""

    state: State
    classifiers: dict[int, Tensor]
    project: str


def translate(state: State) -> Translated:
    """Return the tensors of a weight file under our names; the project is recognised by its names."""
    for project, (mark, rule) in PROJECTS.items():
        if any(name.startswith(mark) for name in state):
            return Translated(*rule(state), project)
    return Translated(_bare(state), {}, "timm")


def _own(state: State) -> tuple[State, dict[int, Tensor]]:
    return dict(state), {}


def _training_run(state: State) -> tuple[State, dict[int, Tensor]]:
    """Our last.pth: the model beside the loss."""
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}, {}


def _transreid(state: State) -> tuple[State, dict[int, Tensor]]:
    """The original TransReID and its descendants (PersonViT, TransReID-SSL, PASS).

    With JPM, its `b1` is the last block and norm of the global branch and `b2` those of the local ones; the backbone's
    own last block and norm are then never used and left out here, as is its ImageNet classifier `fc`.
    """
    last = max((int(name.split(".")[2]) for name in state if name.startswith("base.blocks.")), default=0)
    unused = ["base.fc."]
    if any(name.startswith("b1.") for name in state):
        unused += [f"base.blocks.{last}.", "base.norm."]
    renamed = (
        ("b1.0.", f"{NET}blocks.{last}."),
        ("b1.1.", f"{NET}norm."),
        ("b2.0.", "backbone.jigsaw.block."),
        ("b2.1.", "backbone.jigsaw.norm."),
        ("base.sie_embed", SIE_TABLE),
        ("base.", NET),
    )
    result = {
        _rename(name, renamed): value
        for name, value in state.items()
        if not name.startswith(tuple(unused)) and not BRANCH.fullmatch(name)
    }
    if SIE_TABLE in result:
        result[SIE_TABLE] = result[SIE_TABLE].flatten(0, -2)  # (rows, 1, D) -> (rows, D)
    return {**result, **_neck(state)}, _classifiers(state)


def _rename(name: str, renamed: tuple[tuple[str, str], ...]) -> str:
    for old, new in renamed:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _branches(state: State, layer: str) -> list[tuple[int, str, Tensor]]:
    """Return (branch, what, tensor) of `layer`, `layer_1`, ..., in the order of the branches."""
    matches = [(BRANCH.fullmatch(name), value) for name, value in state.items()]
    found = [(int(match[2] or 0), match[3], value) for match, value in matches if match and match[1] == layer]
    return sorted(found, key=lambda item: item[0])


def _neck(state: State) -> State:
    """Return the branches' norms side by side: D features each -> K * D."""
    parts: dict[str, list[Tensor]] = {}
    for _, what, value in _branches(state, "bottleneck"):
        parts.setdefault(what, []).append(value)
    return {f"neck.{what}": values[0] if values[0].ndim == 0 else torch.cat(values) for what, values in parts.items()}


def _classifiers(state: State) -> dict[int, Tensor]:
    """AM-Softmax keeps its weight the other way round, as W (D, C)."""
    return {
        branch: value.t().contiguous() if what == "W" else value
        for branch, what, value in _branches(state, "classifier")
        if value.ndim == 2
    }


def _self_supervised(state: State) -> tuple[State, dict[int, Tensor]]:
    """DINO and its descendants: a backbone beside a projection head."""
    return _bare(
        {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    ), {}


def _bare(state: State) -> State:
    """A backbone alone, as timm and DeiT name it."""
    if "norm.weight" not in state:  # trained with the norm after the mean; ours is before
        state = {re.sub(r"^fc_norm\.", "norm.", name): value for name, value in state.items()}
    return {NET + name: value for name, value in state.items()}


PROJECTS: dict[str, tuple[str, Callable[[State], tuple[State, dict[int, Tensor]]]]] = {
    "vitreid": (NET, _own),
    "vitreid training run": ("model." + NET, _training_run),
    "TransReID": ("base.", _transreid),
    "self-supervised": ("backbone.", _self_supervised),
}
