"""Attention rollout: the share of each patch in the global embedding [Abnar & Zuidema, ACL 2020, arXiv:2005.00928]."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ...common.errors import UserError
from ..backbones.vit import ViTBackbone
from ..reid_model import ReidModel


@torch.inference_mode()
def attention_rollout(
    model: ReidModel, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
) -> Tensor:
    """Return the share of each patch in the global embedding through the attention of all blocks.

    Each block's attention, averaged over its heads, is averaged with the identity (the residual connection), and the blocks'
    matrices are multiplied. The class token's row is returned, or the mean of the patches' rows where these are pooled.

    Args:
        images, camids, viewids: as for the model, which is in evaluation mode.
    Returns:
        (B, h, w) float32 on the patch grid; each image sums to 1.
    Raises:
        ValueError: the backbone is not a plain vision transformer.
    """
    if not has_attention(model):
        raise UserError(
            f"MODEL.NAME: {model.spec.name} has no attention over patches to show; vit_* and deit_* models do"
        )
    backbone = cast(ViTBackbone, model.backbone)
    net: Any = backbone.net
    tokens = backbone.embed_tokens(images, camids, viewids)
    identity = torch.eye(tokens.shape[1], device=tokens.device)
    total = identity.expand(len(tokens), -1, -1)  # (B, N, N)
    for block in net.blocks:
        total = (attention_weights(block, tokens).float().mean(1) + identity) / 2 @ total
        tokens = block(tokens)
    return patch_shares(total, model).unflatten(1, tuple(net.patch_embed.grid_size))


def patch_shares(matrices: Tensor, model: ReidModel) -> Tensor:
    """Return each patch's share (B, N) of the pooled feature, from attention (B, prefix + N, prefix + N); sums to 1."""
    first: int = cast(Any, model.backbone.net).num_prefix_tokens
    rows = matrices[:, 0] if model.spec.pool == "token" else matrices[:, first:].mean(1)
    return rows[:, first:] / rows[:, first:].sum(1, keepdim=True)


def has_attention(model: ReidModel) -> bool:
    """Return whether the model has attention over patches, as `attention_rollout` needs."""
    backbone = model.backbone
    return isinstance(backbone, ViTBackbone) and all(hasattr(block, "attn") for block in backbone.net.blocks)


def attention_weights(block: Any, tokens: Tensor) -> Tensor:
    """Return the attention (B, heads, N, N) of one of timm's transformer blocks for its input (B, N, D); rows sum to 1."""
    attention = block.attn
    query, key, _ = attention.qkv(block.norm1(tokens)).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = attention.q_norm(query) * attention.scale @ attention.k_norm(key).transpose(-2, -1)
    return scores.softmax(-1)
