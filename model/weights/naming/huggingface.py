"""Names of Hugging Face's transformers: ViT, DeiT, MAE, DINOv2, BEiT, DINOv3, Swin, SwinV2, ConvNeXt and ResNet.

Files on the hub have the names of version 4, models of version 5 partly others; both are read. The model may lie below any prefix
(`vit.`, `dinov2.`, `swin.`), which is taken off before.
"""

from __future__ import annotations

import torch

from .attention import class_position_in_token, merged_qkv, spread_position_bias, without_zero_biases
from .key_names import IMAGENET, Hints, RenamedWeights, State, in_backbone, renamed, without

PATCHES = (
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls|mask)_token$", r"\1_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
)
TABLE = (
    r"^((?:layers\.\d+\.)?blocks\.\d+)\.(?:attention\.)?(?:attention\.|self\.)?(?:relative_position_bias\.)?"
    r"relative_position_bias_table$"
)
BLOCK = (
    (r"(layer_?norm\w*)\.gamma$", r"\1.weight"),  # TensorFlow's names
    (r"(layer_?norm\w*)\.beta$", r"\1.bias"),
    (TABLE, r"\1.attn.relative_position_bias_table"),
    (r"\.attention\.(?:attention\.|self\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.attention\.(?:attention\.|self\.)?(q|k)_(?:layer)?norm\.", r".attn.\1_norm."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(?:self\.)?logit_scale$", ".attn.logit_scale"),
    (r"\.attention\.(?:self\.)?continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
FLAT = (r"^(?:encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\1.")  # blocks without stages
VIT = (FLAT, *PATCHES, *BLOCK, (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"))
BEIT = (
    FLAT,
    *PATCHES,
    (r"^(?:encoder\.relative_position_bias|shared_position_bias)\.", "rel_pos_bias."),
    *BLOCK,
    (r"\.lambda_([12])$", r".gamma_\1"),
    (r"^pooler\.layernorm\.", "fc_norm."),
)
DINOV3 = (
    FLAT,
    *PATCHES,
    *BLOCK,
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
)
SWIN = (
    (r"^encoder\.layers\.(\d)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),
    (r"^encoder\.", ""),
    *PATCHES,
    *BLOCK,
)
CONVNEXT = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^(?:model\.)?stages\.0\.downsample_layers\.", "stem."),  # DINOv3's
    (r"^(?:encoder\.|model\.)?stages\.(\d)\.downsampl(?:ing|e)_layers?\.", r"stages.\1.downsample."),
    (r"^(?:encoder\.|model\.)?stages\.(\d)\.layers\.", r"stages.\1.blocks."),
    (r"\.(?:dwconv|depthwise_conv)\.", ".conv_dw."),
    (r"\.(?:pwconv|pointwise_conv)([12])\.", r".mlp.fc\1."),
    (r"\.grn\.", ".mlp.grn."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"^(stages\..*)\.layer_?norm\.", r"\1.norm."),
    (r"^layer_?norm\.", "head.norm."),
)
RESNET = (
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.(\d)\.layers\.", lambda match: f"layer{int(match[1]) + 1}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"\.layer\.(\d)\.convolution\.", lambda match: f".conv{int(match[1]) + 1}."),
    (r"\.layer\.(\d)\.normalization\.", lambda match: f".bn{int(match[1]) + 1}."),
)
BUFFERS = r".*(relative_position_index|relative_coords_table)$"


def huggingface_vit(state: State) -> RenamedWeights:
    """ViT and DeiT, and DINOv2 with its layer scale, registers and, in the giant, gated MLPs."""
    is_dino = any(name.endswith("layer_scale1.lambda1") for name in state)
    hints = Hints(pixels=IMAGENET) if is_dino else Hints()
    state = class_position_in_token(renamed(state, VIT))
    return in_backbone(_packed_gates(merged_qkv(state)), hints=hints)


def huggingface_mae(state: State) -> RenamedWeights:
    """A masked autoencoder's ViT."""
    state = {name.removeprefix("vit."): value for name, value in state.items()}
    return in_backbone(merged_qkv(renamed(state, VIT)), hints=Hints(pixels=IMAGENET))


def _packed_gates(state: State) -> State:
    """Return gated MLPs with gates and values in one layer, as version 4 has them: timm's SwiGLUPacked."""
    result: State = {}
    for name, value in state.items():
        if ".mlp.gate_proj." in name:
            result[name.replace("gate_proj", "fc1")] = torch.cat([value, state[name.replace("gate_proj", "up_proj")]])
        elif ".mlp.up_proj." not in name or name.replace("up_proj", "gate_proj") not in state:
            result[name] = value
    return result


def huggingface_beit(state: State) -> RenamedWeights:
    """BEiT, with a position bias per block or a shared one."""
    state, left_out = without(state, BUFFERS)
    return in_backbone(spread_position_bias(merged_qkv(renamed(state, BEIT), split_bias=True)), left_out)


def huggingface_masked_beit(state: State) -> RenamedWeights:
    """BEiT with the head of its pretraining, whose norm is the backbone's last one."""
    return huggingface_beit({name.removeprefix("beit."): value for name, value in state.items()})


def huggingface_dinov3(state: State) -> RenamedWeights:
    """DINOv3's ViT."""
    first = "fc1_x" if any(".mlp.gate_proj." in name for name in state) else "fc1"
    patterns = (*DINOV3, (r"\.mlp\.up_proj\.", f".mlp.{first}."))
    state, zero = without_zero_biases(merged_qkv(renamed(state, patterns), split_bias=True))
    return in_backbone(state, zero, Hints(pixels=IMAGENET))


def huggingface_swin(state: State) -> RenamedWeights:
    """Swin; the layers between stages stand at the start of the next one in timm."""
    state, left_out = without(state, BUFFERS)
    return in_backbone(merged_qkv(renamed(state, SWIN)), left_out)


def huggingface_swin_v2(state: State) -> RenamedWeights:
    """SwinV2, whose keys have no bias."""
    state, left_out = without(state, BUFFERS)
    return in_backbone(merged_qkv(renamed(state, SWIN), split_bias=True), left_out)


def huggingface_convnext(state: State) -> RenamedWeights:
    """ConvNeXt, ConvNeXt V2 and DINOv3's ConvNeXt."""
    state = renamed(state, CONVNEXT)
    flat = {
        name: value.flatten() if ".grn." in name else value for name, value in state.items()
    }  # (1, 1, 1, C) -> (C,)
    return in_backbone(flat, hints=Hints(pixels=IMAGENET))


def huggingface_resnet(state: State) -> RenamedWeights:
    """ResNet."""
    return in_backbone(renamed(state, RESNET), hints=Hints(pixels=IMAGENET))
