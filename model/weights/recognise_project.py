"""Names of other projects' tensors -> ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.vit_variants import PART_TOKENS
from . import project_layouts as foreign
from .key_names import BRANCH, NET, SIE_TABLE, Ours, State, biases, classifiers, neck, rename

__all__ = ["NET", "SIE_TABLE", "State", "Translated", "translate"]


class Translated(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, the project the names came from, names left out."""

    state: State
    classifiers: dict[int, Tensor]
    project: str
    left_out: list[str]


class Project(NamedTuple):
    """How the files of a project are known and read.

    Args:
        mark: regular expression that one of the names fits, from its start.
        rule: the file's tensors -> ours.
        unused: regular expression of names that are of no use to an embedder, from their start.
    """

    mark: str
    rule: Callable[[State], Ours]
    unused: str = "$"


def translate(state: State) -> Translated:
    """Return the tensors of a weight file under our names; the project is recognised by its names."""
    name = next((name for name in PROJECTS if any(re.match(PROJECTS[name].mark, key) for key in state)), "timm")
    project = PROJECTS.get(name, Project("", _bare))
    left_out = [key for key in state if re.match(project.unused, key)]
    ours = project.rule({key: value for key, value in state.items() if key not in set(left_out)})
    return Translated(ours.state, ours.classifiers, name, [*left_out, *ours.left_out])


def _own(state: State) -> Ours:
    return Ours(dict(state), {})


def _training_run(state: State) -> Ours:
    """Our last.pth: the model beside the loss, whose heads are the classifiers."""
    heads = {
        int(match[1]): match[0] for match in map(re.compile(r"loss\.heads\.(\d+)\.weight").fullmatch, state) if match
    }
    model = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    return Ours(model, {branch: state[name] for branch, name in heads.items()})


def _transreid(state: State) -> Ours:
    """The original TransReID and its descendants (PersonViT, TransReID-SSL, PASS).

    With JPM, its `b1` is the last block and norm of the global branch and `b2` those of the local ones; the backbone's
    own last block and norm are then never used and left out here, as is its ImageNet classifier `fc`.
    """
    state = _reid_vit(state, "base.")
    last = max((int(name.split(".")[2]) for name in state if name.startswith("base.blocks.")), default=0)
    has_branches = any(name.startswith("b1.") for name in state)
    unused = ("base.fc.", *((f"base.blocks.{last}.", "base.norm.") if has_branches else ()))
    left_out = tuple(name for name in state if name.startswith(unused))
    renamed = (
        ("b1.0.", f"{NET}blocks.{last}."),
        ("b1.1.", f"{NET}norm."),
        ("b2.0.", "backbone.jigsaw.block."),
        ("b2.1.", "backbone.jigsaw.norm."),
        ("base.sie_embed", SIE_TABLE),
        ("base.", NET),
    )
    result = {
        rename(name, renamed): value
        for name, value in state.items()
        if name not in left_out and not BRANCH.fullmatch(name)
    }
    if SIE_TABLE in result:
        result[SIE_TABLE] = result[SIE_TABLE].flatten(0, -2)  # (rows, 1, D) -> (rows, D)
    return Ours({**result, **neck(state)}, classifiers(state), (*left_out, *biases(state)))


def _reid_vit(state: State, prefix: str = "") -> State:
    """Return the state of a re-ID ViT with timm's names: TransReID-SSL's stem, and the part tokens of PASS.

    PASS keeps each token and its position under a name of its own; timm has one tensor for the registers, and one for the
    positions of all.
    """
    if f"{prefix}patch_embed.conv.1.IN.weight" in state:
        state = {name.replace("patch_embed.conv.", "patch_embed.body."): value for name, value in state.items()}
    if f"{prefix}part_token1" not in state:
        return state
    tokens = [f"{prefix}part_token{number}" for number in range(1, PART_TOKENS + 1)]
    positions = [f"{prefix}{part}_pos" for part in ("cls", *(f"part{number}" for number in range(1, PART_TOKENS + 1)))]
    result = {name: value for name, value in state.items() if name not in {*tokens, *positions}}
    result[f"{prefix}reg_token"] = torch.cat([state[name] for name in tokens], dim=1)
    result[f"{prefix}pos_embed"] = torch.cat([state[name] for name in (*positions, f"{prefix}pos_embed")], dim=1)
    return result


def _self_supervised(state: State) -> Ours:
    """DINO and its descendants: a backbone beside a projection head."""
    return _bare({name.removeprefix("backbone."): value for name, value in state.items()})


def _bare(state: State) -> Ours:
    """A backbone alone, as timm, DeiT and torchreid's ResNets name it."""
    return Ours({NET + name: value for name, value in _reid_vit(state).items()}, {})


PROJECTS: dict[str, Project] = {  # the first whose mark is found
    "vitreid": Project(r"backbone\.net\.", _own),
    "vitreid training run": Project(r"model\.backbone\.net\.", _training_run, r"(?!model\.|loss\.heads\.)"),
    "SOLIDER": Project(
        r"(backbone|base)\.patch_embed\.projection\.",
        foreign.solider,
        r"(backbone|base)\.(norm[012]\.|semantic_embed_[wb]\.3\.|.*relative_position_index$)|head\.",
    ),
    "TransReID": Project(r"base\.", _transreid),
    "CLIP-ReID": Project(
        r"image_encoder\.", foreign.clip_reid, r"(prompt_learner|text_encoder|classifier|classifier_proj)\."
    ),
    "fast-reid": Project(r"heads\.", foreign.fast_reid, "pixel_(mean|std)$"),
    "torchreid's OSNet": Project(r"conv2\.0\.conv2a\.", foreign.torchreid_osnet),
    "torchreid's ResNet": Project(r"fc\.0\.weight$", foreign.torchreid_resnet),
    "T2T-ViT": Project(r"tokens_to_token\.", foreign.t2t),
    "Google's JAX": Project(r"(opt/target/|params/)?(Transformer/|embedding/)", foreign.jax, ".*(head|pre_logits)/"),
    "self-supervised": Project(r"backbone\.", _self_supervised, r"(?!backbone\.)"),
}
