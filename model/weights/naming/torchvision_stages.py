"""Names of torchvision's ViT, Swin, SwinV2 and ConvNeXt -> timm's. Its ResNets have timm's names."""

from __future__ import annotations

import re
from collections.abc import Callable

from .attention import split_qkv_bias
from .huggingface import BUFFERS
from .key_names import IMAGENET, Hints, RenamedWeights, State, in_backbone, renamed, without

VIT = (
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)


def _stage(inside: str, between: str) -> Callable[[re.Match[str]], str]:
    """Return the name of a feature's number: odd ones are stages, even ones stand between them; timm has them at the next one."""
    return lambda match: f"{(inside if int(match[1]) % 2 else between).format(int(match[1]) // 2)}"


SWIN = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^features\.(\d)\.", _stage("layers.{}.blocks.", "layers.{}.downsample.")),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)
CONVNEXT = (
    (r"^features\.0\.", "stem."),
    (r"^features\.(\d)\.", _stage("stages.{}.blocks.", "stages.{}.downsample.")),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
    (r"^classifier\.0\.", "head.norm."),
)
HINTS = Hints(pixels=IMAGENET)


def torchvision_vit(state: State) -> RenamedWeights:
    """ViT."""
    state, left_out = without(state, r"heads\.")
    return in_backbone(renamed(state, VIT), left_out, HINTS)


def torchvision_swin(state: State) -> RenamedWeights:
    """Swin."""
    state, left_out = without(state, f"head\\.|{BUFFERS}")
    return in_backbone(renamed(state, SWIN), left_out, HINTS)


def torchvision_swin_v2(state: State) -> RenamedWeights:
    """SwinV2; the keys' biases, which it sets to zero, are left out."""
    state, left_out = without(state, f"head\\.|{BUFFERS}")
    return in_backbone(split_qkv_bias(renamed(state, SWIN)), left_out, HINTS)


def torchvision_convnext(state: State) -> RenamedWeights:
    """ConvNeXt."""
    state, left_out = without(state, r"classifier\.[1-9]")
    state = renamed(state, CONVNEXT)
    return in_backbone(
        {name: value.flatten() if name.endswith(".gamma") else value for name, value in state.items()}, left_out, HINTS
    )
