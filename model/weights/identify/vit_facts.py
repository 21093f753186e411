"""What a ViT's tensors say of it: width, depth, patch, tokens, layer scale, gated MLPs, biases, norms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..naming.key_names import State

HEADS_OF_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}  # published ViTs
ACTIVATIONS = {  # transformers' names -> timm's
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


@dataclass(frozen=True)
class VitFacts:
    """Sizes and parts of a ViT.

    Args:
        hidden: width inside an MLP's first layer, gates included.
        positions: rows of the position embedding, those of class and other tokens included.
        num_heads: 0 if the file does not say.
        activation: empty if the file does not say.
        states_activation: whether a config says so.
        stem: a value of MODEL.STEM.
    """

    width: int
    depth: int
    hidden: int
    patch: int
    stem: str
    positions: int
    num_heads: int
    activation: str
    states_activation: bool
    registers: int
    has_class: bool
    has_distillation: bool
    has_scale: bool
    is_gated: bool
    has_norm_first: bool
    has_bias: bool
    has_pooling: bool

    @property
    def likely_heads(self) -> int:
        """The number of heads, if need be that of the published ViT of that width, or one per 64 features."""
        return self.num_heads or HEADS_OF_WIDTH.get(self.width, 0) or max(self.width // 64, 1)

    @property
    def positions_have_class(self) -> bool:
        """Whether the position embedding has a row for the class token: the patches of a square image are a square number."""
        return math.isqrt(self.positions) ** 2 != self.positions


def read_vit(state: State, config: Mapping[str, Any], activation: str) -> VitFacts | None:
    """Return the facts of a ViT with timm's names, None for any other network.

    Args:
        config: of transformers or timm, {} if unknown.
        activation: what the naming suggests where the config says nothing.
    """
    needed = ("blocks.0.attn.qkv.weight", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
    others = ("blocks.0.attn.q_bias", "blocks.0.gamma_1", "blocks.0.attn.relative_position_bias_table")
    patches = state.get("patch_embed.proj.weight")
    if patches is None or "pos_embed" not in state or any(name not in state for name in needed):
        return None
    if any(name in state for name in others):
        return None
    width, hidden = len(state[needed[1]]), len(state[needed[2]])
    about, stem = _about(config, width), _stem(state)
    is_gated = state[needed[3]].shape[1] != hidden
    stated = "silu" if is_gated else ACTIVATIONS.get(about.get("hidden_act", ""), "")
    return VitFacts(
        width=width,
        depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        hidden=hidden,
        patch=_patch(patches, stem),
        stem=stem,
        positions=state["pos_embed"].shape[-2],
        num_heads=about.get("num_attention_heads") or about.get("num_heads") or 0,
        activation=stated or activation,
        states_activation=bool(stated),
        registers=state["reg_token"].shape[1] if "reg_token" in state else 0,
        has_class="cls_token" in state,
        has_distillation="dist_token" in state,
        has_scale="blocks.0.ls1.gamma" in state,
        is_gated=is_gated,
        has_norm_first="norm_pre.weight" in state,
        has_bias="blocks.0.attn.qkv.bias" in state,
        has_pooling=any(name.startswith("attn_pool.") for name in state),
    )


def _stem(state: State) -> str:
    """Return MODEL.STEM: the layers before the projection, if any, are of TransReID-SSL or of ours."""
    inside = {name.removeprefix("patch_embed.body.") for name in state if name.startswith("patch_embed.body.")}
    if not inside:
        return "patch"
    if "1.IN.weight" in inside:
        return "ics"
    return "resconv" if any(name.startswith("1.body.") for name in inside) else "conv"


def _patch(projection: Tensor, stem: str) -> int:
    """Return the patch in pixels; a convolutional stem, which halves the image step by step, is taken to end at 16."""
    if stem in ("conv", "resconv"):
        return 16
    if projection.ndim == 2:
        return math.isqrt(projection.shape[1] // 3)
    return projection.shape[-1] * (2 if stem == "ics" else 1)


def _about(config: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    """Return the part of a config that describes a vision tower of this width; {} if none does."""
    for part in (config, config.get("vision_config") or {}, config.get("model_args") or {}, _open_clip(config)):
        if part.get("hidden_size", part.get("embed_dim")) == width:
            return part
    return {}


def _open_clip(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what open_clip's config says of the vision tower, with the names of transformers."""
    model = config.get("model_cfg") or {}
    vision = model.get("vision_cfg") or {}
    width, head = vision.get("width"), vision.get("head_width", 64)
    if not isinstance(width, int) or not isinstance(head, int) or head < 1:
        return {}
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    return {"hidden_size": width, "num_attention_heads": width // head, "hidden_act": activation}
