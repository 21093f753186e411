"""Names of CLIP's and SigLIP's image towers: OpenAI's and open_clip's, and those of Hugging Face's transformers.

The text tower, below another prefix, is left out, as is the projection into the space of the texts.
"""

from __future__ import annotations

import torch

from .attention import merged_qkv
from .key_names import CLIP_PIXELS, Hints, RenamedWeights, State, in_backbone, renamed, without

OPENAI = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ls_([12])\.", r".ls\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
OPENAI_RESNET = (
    (r"^conv(\d)\.", r"stem.conv\1.conv."),
    (r"^bn(\d)\.", r"stem.conv\1.bn."),
    (r"^layer(\d)\.", lambda match: f"stages.{int(match[1]) - 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv.conv."),
    (r"\.downsample\.1\.", ".shortcut.conv.bn."),
    (r"^(stages\.\d+\.\d+)\.conv(\d)\.", r"\1.conv\2{kernel}.conv."),
    (r"^(stages\.\d+\.\d+)\.bn(\d)\.", r"\1.conv\2{kernel}.bn."),
    (r"conv2\{kernel\}", "conv2_kxk"),
    (r"\{kernel\}", "_1x1"),
    (r"^attnpool\.positional_embedding$", "head.pos_embed"),
    (r"^attnpool\.c_proj\.", "head.proj."),
    (r"^attnpool\.([qkv])_proj\.", r"head.\1."),
)
HUGGING_FACE = (
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.(q|k|v)_proj\.", r".attn.\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
)
HALF = (torch.float16, torch.bfloat16)


def openai_clip(state: State) -> RenamedWeights:
    """OpenAI's and open_clip's ViT. OpenAI's files are in half precision and have QuickGELU, open_clip's own mostly GELU."""
    state, left_out = without(state, r"proj$")
    is_half = next(iter(state.values())).dtype in HALF
    activation = "quick_gelu" if is_half else "gelu"
    assumed = (
        f"MODEL.ACTIVATION {activation}, as the file is {'' if is_half else 'not '}in half precision like OpenAI's"
    )
    hints = Hints(activation, CLIP_PIXELS, assumed=assumed)
    return in_backbone(as_rows(renamed(state, OPENAI)), left_out, hints)


def openai_clip_resnet(state: State) -> RenamedWeights:
    """OpenAI's ResNets with attention pooling."""
    names = tuple(f"resnet{depth}_clip" for depth in ("50", "101", "50x4", "50x16", "50x64"))
    return in_backbone(renamed(state, OPENAI_RESNET), hints=Hints(pixels=CLIP_PIXELS, names=names))


def huggingface_clip(state: State) -> RenamedWeights:
    """CLIP's vision tower in transformers; its usual activation is QuickGELU."""
    assumed = "MODEL.ACTIVATION quick_gelu, the usual one of transformers' CLIP"
    state, left_out = without(state, r"embeddings\.position_ids$")
    hints = Hints("quick_gelu", CLIP_PIXELS, assumed=assumed)
    return in_backbone(as_rows(merged_qkv(renamed(state, HUGGING_FACE))), left_out, hints)


def huggingface_siglip(state: State) -> RenamedWeights:
    """SigLIP's vision tower: no class token; its attention pooling is left out."""
    state, left_out = without(state, r"head\.|embeddings\.position_ids$")
    return in_backbone(as_rows(merged_qkv(renamed(state, HUGGING_FACE))), left_out, Hints("gelu_tanh"))


def as_rows(state: State) -> State:
    """Return the class token and position embeddings as (1, N, D), from (D,) or (N, D)."""
    return {
        name: value.reshape(1, -1, value.shape[-1]) if name.endswith(("cls_token", "pos_embed")) else value
        for name, value in state.items()
    }
