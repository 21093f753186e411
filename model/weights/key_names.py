"""Tensor names of a `ReidModel`, and helpers to rename those of weight files."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = dict[str, Tensor]
Renames = tuple[tuple[str, str], ...]
Patterns = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
NET = "backbone.net."
SIE_TABLE = "backbone.sie.table"
BRANCH = re.compile(r"(bottleneck|classifier)(?:_(\d+))?\.(\w+)")


class RenamedWeights(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, names of the file that are not used."""

    state: State
    classifiers: dict[int, Tensor]
    left_out: tuple[str, ...] = ()


def rename(name: str, prefixes: Renames) -> str:
    """Return the name with its first matching prefix replaced."""
    for old, new in prefixes:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def rewrite(name: str, patterns: Patterns) -> str:
    """Return the name after all substitutions (regular expression, replacement), in order."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def neck(state: State) -> State:
    """Return the branches' norms `bottleneck`, `bottleneck_1`, ... concatenated: D features each -> K * D."""
    parts: dict[str, list[Tensor]] = {}
    for _, what, value in _branches(state, "bottleneck"):
        parts.setdefault(what, []).append(value)
    return {f"neck.{what}": values[0] if values[0].ndim == 0 else torch.cat(values) for what, values in parts.items()}


def classifiers(state: State) -> dict[int, Tensor]:
    """Return `classifier`, `classifier_1`, ... (C, D) by branch; AM-Softmax keeps its weight as W (D, C)."""
    return {
        branch: value.t().contiguous() if what == "W" else value
        for branch, what, value in _branches(state, "classifier")
        if value.ndim == 2
    }


def biases(state: State) -> tuple[str, ...]:
    """Return the names of the classifiers' biases; ours have none."""
    matches = ((name, BRANCH.fullmatch(name), value) for name, value in state.items())
    return tuple(name for name, match, value in matches if match and match[1] == "classifier" and value.ndim < 2)


def _branches(state: State, layer: str) -> list[tuple[int, str, Tensor]]:
    """Return (branch, what, tensor) of `layer`, `layer_1`, ..., in the order of the branches."""
    matches = [(BRANCH.fullmatch(name), value) for name, value in state.items()]
    found = [(int(match[2] or 0), match[3], value) for match, value in matches if match and match[1] == layer]
    return sorted(found, key=lambda item: item[0])
