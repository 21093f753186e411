"""Layouts of other projects' weight files -> our names, one function per layout.

Each takes the file's tensors by name. It leaves unknown names unchanged; the load report lists them as unexpected.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ....common.errors import UserError
from .clip import OPENAI, as_rows
from .key_names import (
    BRANCH,
    IMAGENET,
    NET,
    SIE_TABLE,
    Hints,
    RenamedWeights,
    State,
    biases,
    classifiers,
    neck,
    rename,
    rewrite,
)

OSNET = (
    (r"^conv1\.conv\.", "stem.0.0."),
    (r"^conv1\.bn\.", "stem.0.1."),
    (r"^conv5\.conv\.", "last.0."),
    (r"^conv5\.bn\.", "last.1."),
    (r"^fc\.", "embedding."),
    (r"^conv2\.", "stages.0."),
    (r"^conv3\.", "stages.1."),
    (r"^conv4\.", "stages.2."),
    (r"\.2\.0\.conv\.", ".2.0.0."),  # between two stages
    (r"\.2\.0\.bn\.", ".2.0.1."),
    (r"\.conv2a\.", ".streams.0.0."),
    (r"\.conv2b\.", ".streams.1."),
    (r"\.conv2c\.", ".streams.2."),
    (r"\.conv2d\.", ".streams.3."),
    (r"(\.streams\.\d\.\d)\.conv1\.", r"\1.0."),
    (r"(\.streams\.\d\.\d)\.conv2\.", r"\1.1."),
    (r"(\.streams\.\d\.\d)\.bn\.", r"\1.2."),
    (r"\.conv1\.conv\.", ".reduce.0."),
    (r"\.conv1\.bn\.", ".reduce.1."),
    (r"\.conv3\.conv\.", ".expand.0."),
    (r"\.conv3\.bn\.", ".expand.1."),
    (r"\.downsample\.conv\.", ".shortcut.0."),
    (r"\.downsample\.bn\.", ".shortcut.1."),
    (r"\.gate\.fc1\.", ".gate.body.0."),
    (r"\.gate\.fc2\.", ".gate.body.2."),
)
FAST_REID = (
    ("backbone.", NET),
    ("heads.bottleneck.0.", "neck."),
    ("heads.pool_layer.p", f"{NET}global_pool.p"),
)
NON_LOCAL = (
    (r"\.NL_(\d)\.(\d)\.", lambda match: f".layer{match[1]}.{int(match[2]) + 2 + int(match[1] == '3')}.non_local."),
    (r"\.non_local\.theta\.", ".non_local.query."),
    (r"\.non_local\.phi\.", ".non_local.key."),
    (r"\.non_local\.g\.", ".non_local.value."),
    (r"\.non_local\.W\.", ".non_local.expand."),
)
T2T = (
    (r"^tokens_to_token\.attention1\.", "patch_embed.first."),
    (r"^tokens_to_token\.attention2\.", "patch_embed.second."),
    (r"^tokens_to_token\.project\.", "patch_embed.proj."),
    (r"^(patch_embed\.\w+)\.(?:attn\.qkv|kqv)\.", r"\1.qkv."),
    (r"^(patch_embed\.\w+)\.attn\.proj\.", r"\1.proj."),
    (r"^(patch_embed\.\w+)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(patch_embed\.\w+)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"^(patch_embed\.\w+)\.w$", r"\1.features"),
)
SOLIDER = (
    (r"^(?:backbone|base)\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^stages\.", "layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^norm3\.", "norm."),
)
JAX = (
    (r"^(?:opt/target|params)/", ""),
    ("/", "."),
    (r"^cls$", "cls_token"),
    (r"^Transformer\.posembed_input\.pos_embedding$", "pos_embed"),
    (r"^Transformer\.encoder_norm\.", "norm."),
    (r"^embedding\.", "patch_embed.proj."),
    (r"^Transformer\.encoderblock_", "blocks."),
    (r"\.LayerNorm_0\.", ".norm1."),
    (r"\.LayerNorm_2\.", ".norm2."),
    (r"\.MlpBlock_3\.Dense_0\.", ".mlp.fc1."),
    (r"\.MlpBlock_3\.Dense_1\.", ".mlp.fc2."),
    (r"\.MultiHeadDotProductAttention_1\.out\.", ".attn.proj."),
    (r"\.MultiHeadDotProductAttention_1\.", ".attn."),
    (r"^conv_root\.", "patch_embed.backbone.stem.conv."),
    (r"^gn_root\.", "patch_embed.backbone.stem.norm."),
    (r"\.conv_proj\.", ".downsample.conv."),
    (r"\.gn_proj\.", ".downsample.norm."),
    (r"\.gn(\d)\.", r".norm\1."),
    (r"\.(?:kernel|scale)$", ".weight"),
)


def torchreid_osnet(state: State) -> RenamedWeights:
    """torchreid's OSNet; its ResNets have torchvision's names."""
    ours = {NET + rewrite(name, OSNET): value for name, value in state.items() if not BRANCH.fullmatch(name)}
    return RenamedWeights(ours, classifiers(state), biases(state), Hints(pixels=IMAGENET))


def torchreid_resnet(state: State) -> RenamedWeights:
    """torchreid's ResNets with a linear layer behind the pooling; those without one have torchvision's names."""
    found = {name: value for name, value in state.items() if not BRANCH.fullmatch(name)}
    renamed = (("fc.", f"{NET}global_pool.embedding."),)
    ours = {rename(name, renamed) if name.startswith("fc.") else NET + name: value for name, value in found.items()}
    return RenamedWeights(ours, classifiers(state), biases(state), Hints(pixels=IMAGENET))


def fast_reid(state: State) -> RenamedWeights:
    """fast-reid's ResNets: BoT, and SBS and AGW with non-local blocks at the end of two stages."""
    heads = {0: state["heads.weight"]} if "heads.weight" in state else {}
    found = {name: value for name, value in state.items() if name != "heads.weight"}
    ours = {rename(rewrite(name, NON_LOCAL), FAST_REID): value for name, value in found.items()}
    return RenamedWeights(ours, heads, hints=Hints(pixels=IMAGENET))


def t2t(state: State) -> RenamedWeights:
    """T2T-ViT; its performer stores keys before queries."""
    result = {}
    for name, value in state.items():
        if ".kqv." in name:
            key, query, rest = value.chunk(3)
            value = torch.cat([query, key, rest])
        result[NET + rewrite(name, T2T)] = value
    return RenamedWeights(result, {}, hints=Hints(pixels=IMAGENET))


def clip_reid(state: State) -> RenamedWeights:
    """CLIP-ReID's ViT: image tower and projection; the two classifiers are left out.

    Its two norms, `bottleneck` (D features) and `bottleneck_proj` (P features of the projection), become one of D + P features.
    """
    result: State = {}
    for name, value in state.items():
        if name.startswith("image_encoder."):
            result[NET + rewrite(name.removeprefix("image_encoder."), OPENAI)] = value
        elif name.startswith("bottleneck."):
            other = _other_half(state, name)
            result[name.replace("bottleneck.", "neck.")] = torch.cat([value, other]) if value.ndim else value
        elif not name.startswith("bottleneck_proj."):
            result[rename(name, (("cv_embed", SIE_TABLE),))] = value
    if f"{NET}proj" in result:  # (D, P), applied from the right
        result["backbone.projection.weight"] = result.pop(f"{NET}proj").t().contiguous()
    return RenamedWeights(as_rows(result), {}, hints=Hints("quick_gelu"))


def _other_half(state: State, name: str) -> Tensor:
    other = name.replace("bottleneck.", "bottleneck_proj.")
    if other not in state:
        raise UserError(
            f"a CLIP-ReID file with {name} and without {other}: its neck needs both, so the file is incomplete"
        )
    return state[other]


def solider(state: State) -> RenamedWeights:
    """SOLIDER's Swin in mmdetection's layout, from its pretraining or from SOLIDER-REID."""
    result: State = {}
    for name, value in state.items():
        if BRANCH.fullmatch(name):
            continue
        name = rewrite(name, SOLIDER)
        if ".downsample." in name:
            value = _merge_order(value)
        result[NET + re.sub(r"^(?:layers\.(\d)\.downsample|semantic_embed_([wb])\.(\d))\.", _behind, name)] = value
    return RenamedWeights({**result, **neck(state)}, classifiers(state), biases(state))


def _behind(match: re.Match[str]) -> str:
    """Move patch merging and modulation from the end of a stage (mmdetection) to the start of the next (timm)."""
    if match[1]:
        return f"layers.{int(match[1]) + 1}.downsample.layer."
    return f"layers.{int(match[3]) + 1}.downsample.{'scale' if match[2] == 'w' else 'shift'}."


def _merge_order(value: Tensor) -> Tensor:
    """Reorder the last axis of a patch merging: (channel, place) with places row by row -> (place column by column, channel)."""
    channels = value.shape[-1] // 4
    return value.unflatten(-1, (channels, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)


def jax(state: State) -> RenamedWeights:
    """Google's ViT and hybrid R50+ViT (`.npz`): transposed matrices, a separate axis for heads, units counted from 1."""
    result: State = {}
    for name, value in state.items():
        new = re.sub(r"^block(\d+)\.unit(\d+)\.", _unit, rewrite(name, JAX))
        result[NET + new] = value if new in ("cls_token", "pos_embed") else _from_jax(new, value)
    for name in [name for name in result if ".attn.query." in name]:
        parts = [result.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        result[name.replace("query", "qkv")] = torch.cat(parts)
    return RenamedWeights(result, {})


def _unit(match: re.Match[str]) -> str:
    return f"patch_embed.backbone.stages.{int(match[1]) - 1}.blocks.{int(match[2]) - 1}."


def _from_jax(name: str, value: Tensor) -> Tensor:
    if name.endswith((".attn.query.weight", ".attn.key.weight", ".attn.value.weight")):
        return value.flatten(1).t().contiguous()  # (D, heads, d) -> (heads * d, D)
    if name.endswith(".attn.proj.weight"):
        return value.flatten(0, 1).t().contiguous()  # (heads, d, D) -> (D, heads * d)
    if value.ndim == 4 and value.shape[:3] != (1, 1, 1):
        return value.permute(3, 2, 0, 1).contiguous()  # (h, w, in, out) -> (out, in, h, w)
    if value.ndim == 2 and name.endswith(".weight"):
        return value.t().contiguous()
    return value.flatten()  # biases of heads (heads, d), group norms (1, 1, 1, C)
