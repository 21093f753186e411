"""Re-ID projects (and our own files): how their weight files are recognised and renamed, and the dict `PROJECTS`.

To add one: a rule here or in `project_layouts`, and a line in `PROJECTS`.
"""

from __future__ import annotations

import re

import torch

from ...backbones.vit_variants import PART_TOKENS
from .key_names import (
    BRANCH,
    IMAGENET,
    NET,
    SIE_TABLE,
    Hints,
    Project,
    RenamedWeights,
    State,
    biases,
    classifiers,
    in_backbone,
    neck,
    rename,
)
from .project_layouts import clip_reid, fast_reid, jax, solider, t2t, torchreid_osnet, torchreid_resnet


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
    state = reid_vit(state, "base.")
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


def reid_vit(state: State, prefix: str = "") -> State:
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
    found = bare({name.removeprefix("backbone."): value for name, value in state.items()})
    return found._replace(hints=Hints(pixels=IMAGENET))


def bare(state: State) -> RenamedWeights:
    """A backbone with the names of timm, DeiT and torchreid's ResNets."""
    return in_backbone(reid_vit(state))


PROJECTS: dict[str, Project] = {
    "vitreid": Project((r"backbone\.net\.",), lambda state: RenamedWeights(state, {}), is_general=True),
    "vitreid training run": Project(
        (r"model\.backbone\.net\.",), _training_run, r"(?!model\.|loss\.heads\.)", is_general=True
    ),
    "SOLIDER": Project(
        (r"(backbone|base)\.patch_embed\.projection\.",),
        solider,
        r"(backbone|base)\.(norm[012]\.|semantic_embed_[wb]\.3\.|.*relative_position_index$)|head\.",
    ),
    "TransReID": Project((r"base\.(patch_embed\.(proj|conv)\.|cls_token$|conv1\.)",), _transreid),
    "CLIP-ReID": Project(
        (r"image_encoder\.class_embedding$", r"(bottleneck|bottleneck_proj|prompt_learner|cv_embed)\b"),
        clip_reid,
        r"(prompt_learner|text_encoder|classifier|classifier_proj)\.",
    ),
    "fast-reid": Project((r"backbone\.conv1\.", r"heads\."), fast_reid, "pixel_(mean|std)$"),
    "torchreid's OSNet": Project((r"conv2\.0\.conv2a\.",), torchreid_osnet),
    "torchreid's ResNet": Project((r"fc\.0\.weight$", r"fc\.1\.running_mean$", r"layer1\."), torchreid_resnet),
    "T2T-ViT": Project((r"tokens_to_token\.",), t2t),
    "Google's JAX": Project((r"(opt/target/|params/)?(Transformer/|embedding/)",), jax, ".*(head|pre_logits)/"),
    "self-supervised": Project(
        (r"backbone\.(patch_embed\.|cls_token$|conv1\.|conv_stem\.|stem\.)",),
        _self_supervised,
        r"(?!backbone\.)",
        is_general=True,
    ),
}
