"""Tensor names of a `ReidModel`, and helpers to rename those of weight files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from torch import Tensor

State = dict[str, Tensor]
Renames = tuple[tuple[str, str], ...]
Patterns = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
NET = "backbone.net."
SIE_TABLE = "backbone.sie.table"
IMAGENET = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)  # mean and std of the pixels that models expect
CLIP_PIXELS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
BRANCH = re.compile(r"(bottleneck|classifier)(?:_(\d+))?\.(\w+)")


@dataclass(frozen=True)
class Hints:
    """What the naming of a file says of its model, and the tensors do not.

    Args:
        activation: a value of MODEL.ACTIVATION; empty = that of the named model.
        pixels: (mean, std) of the pixels in 0-1 that the model expects, for all three channels or for each; None = timm's.
        norm_eps: what the file's batch norms add to the variance; 0 = what the model's add.
        assumed: how a value was chosen that the file does not state.
        names: timm models and ours to compare the tensors with first.
    """

    activation: str = ""
    pixels: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    norm_eps: float = 0.0
    assumed: str = ""
    names: tuple[str, ...] = ()


class RenamedWeights(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, names of the file that are not used, hints of the naming."""

    state: State
    classifiers: dict[int, Tensor]
    left_out: tuple[str, ...] = ()
    hints: Hints = Hints()


class Project(NamedTuple):
    """Recognition and renaming of the files of a project or library.

    Args:
        marks: regular expressions; a file belongs to the project if each of them matches the start of a name, below one prefix.
        rule: the file's tensors, without the prefix -> ours.
        unused: regular expression of the start of names that an embedder does not use.
        is_general: the marks are those of a wrapper; another project whose marks match at any prefix goes first.
    """

    marks: tuple[str, ...]
    rule: Callable[[State], RenamedWeights]
    unused: str = "$"
    is_general: bool = False


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


def renamed(state: State, patterns: Patterns) -> State:
    """Return the tensors of a backbone with all names rewritten."""
    return {rewrite(name, patterns): value for name, value in state.items()}


def in_backbone(state: State, left_out: tuple[str, ...] = (), hints: Hints = Hints()) -> RenamedWeights:
    """Return a backbone's tensors under timm's names as those of our model."""
    return RenamedWeights({NET + name: value for name, value in state.items()}, {}, left_out, hints)


def without(state: State, unused: str) -> tuple[State, tuple[str, ...]]:
    """Return the tensors whose names do not match the start of a regular expression, and the other names."""
    left_out = tuple(name for name in state if re.match(unused, name))
    return {name: value for name, value in state.items() if name not in left_out}, left_out


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
