"""Names of the repositories in which models first appeared, where timm's differ: Swin, ConvNeXt, BEiT, DINOv2, DINOv3.

ViT, DeiT, MAE and DINO have timm's names there.
"""

from __future__ import annotations

from .attention import class_position_in_token, split_qkv_bias, spread_position_bias, without_zero_biases
from .huggingface import BUFFERS
from .key_names import IMAGENET, Hints, RenamedWeights, State, in_backbone, renamed, without

SWIN = ((r"^layers\.(\d)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),)
CONVNEXT = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
)
DINO = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # blocks in chunks for FSDP, numbered through
    (r"^(?:register|storage)_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
)
DINOV2 = (*DINO, (r"\.mlp\.w3\.", ".mlp.fc2."))
DINOV3 = (
    *DINO,
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)


def first_swin(state: State) -> RenamedWeights:
    """Swin and SwinV2; the layers between stages stand at the start of the next one in timm."""
    state, left_out = without(state, rf"head\.|{BUFFERS}|.*attn_mask$")
    return in_backbone(renamed(state, SWIN), left_out, Hints(pixels=IMAGENET))


def first_convnext(state: State) -> RenamedWeights:
    """ConvNeXt and ConvNeXt V2."""
    state, left_out = without(state, r"head\.")
    state = renamed(state, CONVNEXT)
    flat = {
        name: value.flatten() if ".grn." in name else value for name, value in state.items()
    }  # (1, 1, 1, C) -> (C,)
    return in_backbone(flat, left_out, Hints(pixels=IMAGENET))


def first_beit(state: State) -> RenamedWeights:
    """BEiT before finetuning: a position bias that all blocks share."""
    state, left_out = without(state, BUFFERS)
    return in_backbone(spread_position_bias(state), left_out)


def first_dinov2(state: State) -> RenamedWeights:
    """DINOv2, with registers and, in the giant, gated MLPs."""
    return in_backbone(class_position_in_token(renamed(state, DINOV2)), hints=Hints(pixels=IMAGENET))


def first_dinov3(state: State) -> RenamedWeights:
    """DINOv3's ViT."""
    state, left_out = without(state, r"rope_embed\.|.*\.bias_mask$|local_cls_norm\.")
    state, zero = without_zero_biases(split_qkv_bias(renamed(state, DINOV3)))
    return in_backbone(state, (*left_out, *zero), Hints(pixels=IMAGENET))
