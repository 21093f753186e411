"""Tokens of crops of any size, some of them masked: what self-supervised pre-training reads of a ViT."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from torch.nn.functional import interpolate

from ...common.errors import UserError
from ..parts.blocks import run_block
from .vit import ViTBackbone

Grid = tuple[int, int]


class TokenFeatures(NamedTuple):
    """Features of a batch behind the last norm: `pooled` (B, D), the embedding before the neck, and `patches` (B, N, D)."""

    pooled: Tensor
    patches: Tensor


def token_grid(backbone: ViTBackbone, size: Grid) -> Grid:
    """Return the number of tokens (down, across) of images of `size` pixels (height, width).

    Raises:
        UserError: the backbone's stem takes images of one size only, or the images are smaller than a token.
    """
    stem: Any = backbone.net.patch_embed
    if not hasattr(stem, "tokens"):
        raise UserError(
            f"MODEL.NAME: the stem of {type(stem).__name__} takes images of one size, pre-training has smaller crops too; take a ViT "
            "without a convolutional network in front, e.g. vit_small_patch16_224"
        )
    down, across = stem.dynamic_feat_size(size)
    return down, across


def token_features(
    backbone: ViTBackbone, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None
) -> TokenFeatures:
    """Return the features of images (B, 3, H, W) of any size; position embeddings are resampled to their grid.

    Side information and jigsaw are left out. Without a mask, `pooled` is the global branch of the backbone's own forward pass.

    Args:
        mask: (B, h, w) bool on the images' device; masked tokens are replaced behind the stem (Zhou et al., ICLR 2022). Their pixels are
            set to 0 in front of it, since the windows of convolutional stems overlap.
        mask_token: (1, 1, D) their replacement.
    """
    net = backbone.net
    grid = token_grid(backbone, (images.shape[2], images.shape[3]))
    if mask is not None:
        hidden = interpolate(mask[:, None].float(), images.shape[2:])  # (B, 1, H, W), nearest
        images = images * (1 - hidden)
    patches = net.patch_embed.tokens(images)
    if mask is not None and mask_token is not None:
        patches = torch.where(mask.flatten(1).unsqueeze(2), mask_token.to(patches.dtype), patches)
    tokens = net.norm_pre(backbone.pos_drop(_with_positions(net, patches, grid)))
    for block in net.blocks:
        tokens = run_block(block, tokens, backbone.recompute)
    tokens = net.norm(tokens)
    return TokenFeatures(net.pool(tokens), tokens[:, net.num_prefix_tokens :])


def _with_positions(net: Any, patches: Tensor, grid: Grid) -> Tensor:
    """Return the tokens (B, prefix + N, D): prefix tokens and position embeddings added, as timm's `_pos_embed` does."""
    prefix = [token.expand(len(patches), -1, -1) for token in (net.cls_token, net.reg_token) if token is not None]
    if net.pos_embed is None:
        return torch.cat([*prefix, patches], dim=1)
    positions = resample_abs_pos_embed(
        net.pos_embed,
        new_size=list(grid),
        old_size=list(net.patch_embed.grid_size),
        num_prefix_tokens=0 if net.no_embed_class else net.num_prefix_tokens,
    )
    if net.no_embed_class:
        return net.pos_drop(torch.cat([*prefix, patches + positions], dim=1))
    return net.pos_drop(torch.cat([*prefix, patches], dim=1) + positions)
