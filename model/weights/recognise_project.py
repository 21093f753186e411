"""Recognises the project of a weight file by its tensor names, and renames them to ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.vit_variants import PART_TOKENS
from .key_names import BRANCH, NET, SIE_TABLE, RenamedWeights, State, biases, classifiers, neck, rename
from .project_layouts import clip_reid, fast_reid, jax, solider, t2t, torchreid_osnet, torchreid_resnet

__all__ = ["NET", "SIE_TABLE", "State", "TranslatedWeights", "translate"]


class TranslatedWeights(NamedTuple):
    """Tensors under our names, the ID classifiers (C, D) by branch, the recognised project, names that are left out."""

    state: State
    classifiers: dict[int, Tensor]
    project: str
    left_out: list[str]


class Project(NamedTuple):
    """Recognition and renaming of one project's files.

    Args:
        mark: regular expression; a file belongs to the project if the start of one of its names matches.
        rule: the file's tensors -> ours.
        unused: regular expression of the start of names that an embedder does not use.
    """

    mark: str
    rule: Callable[[State], RenamedWeights]
    unused: str = "$"


def translate(state: State) -> TranslatedWeights:
    """Return the tensors of a weight file under our names; the project is recognised by its names."""
    name = next((name for name in PROJECTS if any(re.match(PROJECTS[name].mark, key) for key in state)), "timm")
    project = PROJECTS.get(name, Project("", _bare))
    left_out = [key for key in state if re.match(project.unused, key)]
    ours = project.rule({key: value for key, value in state.items() if key not in set(left_out)})
    return TranslatedWeights(ours.state, ours.classifiers, name, [*left_out, *ours.left_out])


def _training_run(state: State) -> RenamedWeights:
    """Our last.pth: the model and the loss with its classifiers."""
    heads = {
        int(match[1]): match[0] for match in map(re.compile(r"loss\.heads\.(\d+)\.weight").fullmatch, state) if match
    }
    model = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    return RenamedWeights(model, {branch: state[name] for branch, name in heads.items()})


def _transreid(state: State) -> RenamedWeights:
    """The original TransReID and its descendants (PersonViT, TransReID-SSL, PASS).

    With JPM, `b1` is the last block and norm of the global branch, `b2` those of the local branches. The backbone's last block and
    norm are then unused and left out, as is its ImageNet classifier `fc`.
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
    return RenamedWeights({**result, **neck(state)}, classifiers(state), (*left_out, *biases(state)))


def _reid_vit(state: State, prefix: str = "") -> State:
    """Return the state of a re-ID ViT with timm's names: TransReID-SSL's stem, and the part tokens of PASS.

    PASS stores each token and its position separately; timm has one tensor for the registers and one for all positions.
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


def _self_supervised(state: State) -> RenamedWeights:
    """DINO and its descendants: a backbone and a projection head."""
    return _bare({name.removeprefix("backbone."): value for name, value in state.items()})


def _bare(state: State) -> RenamedWeights:
    """A backbone with the names of timm, DeiT and torchreid's ResNets."""
    return RenamedWeights({NET + name: value for name, value in _reid_vit(state).items()}, {})


PROJECTS: dict[str, Project] = {  # the first match counts
    "vitreid": Project(r"backbone\.net\.", lambda state: RenamedWeights(state, {})),
    "vitreid training run": Project(r"model\.backbone\.net\.", _training_run, r"(?!model\.|loss\.heads\.)"),
    "SOLIDER": Project(
        r"(backbone|base)\.patch_embed\.projection\.",
        solider,
        r"(backbone|base)\.(norm[012]\.|semantic_embed_[wb]\.3\.|.*relative_position_index$)|head\.",
    ),
    "TransReID": Project(r"base\.", _transreid),
    "CLIP-ReID": Project(r"image_encoder\.", clip_reid, r"(prompt_learner|text_encoder|classifier|classifier_proj)\."),
    "fast-reid": Project(r"heads\.", fast_reid, "pixel_(mean|std)$"),
    "torchreid's OSNet": Project(r"conv2\.0\.conv2a\.", torchreid_osnet),
    "torchreid's ResNet": Project(r"fc\.0\.weight$", torchreid_resnet),
    "T2T-ViT": Project(r"tokens_to_token\.", t2t),
    "Google's JAX": Project(r"(opt/target/|params/)?(Transformer/|embedding/)", jax, ".*(head|pre_logits)/"),
    "self-supervised": Project(r"backbone\.", _self_supervised, r"(?!backbone\.)"),
}
