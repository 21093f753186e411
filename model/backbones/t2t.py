"""T2T-ViT: a ViT with a tokens-to-token stem, three overlapping splits with attention between them [Yuan et al., ICCV 2021].

arXiv:2101.11986. After the stem it is timm's plain VisionTransformer with a fixed sinusoid position embedding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from ...common.errors import UserError
from .stems import Size, check_size

Layer = Callable[[int, int], "TokenLayer"]  # input width, output width -> layer
SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride, padding of the three soft splits, in pixels or tokens
TOKEN_DIM = 64  # width between the splits
STRIDE = (16, 16)  # total stride of the three splits
DROP = 0.1  # dropout of the performer, as published


class TokensToToken(nn.Module):
    """Images (B, 3, H, W) -> tokens (B, N, D); timm's `embed_layer`.

    Args:
        img_size: (height, width) in pixels, not necessarily square; one number = square.
        embed_dim: D.
        layer: `Performer` (linear in the number of tokens) or `Softmax`.
        unused: timm's options for patches, which are fixed here.
    """

    def __init__(
        self, img_size: int | Size, layer: Layer, in_chans: int = 3, embed_dim: int = 384, **unused: Any
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = to_2tuple(img_size), STRIDE
        self.grid_size = grid(self.img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.first = layer(in_chans * SPLITS[0][0] ** 2, TOKEN_DIM)
        self.second = layer(TOKEN_DIM * SPLITS[1][0] ** 2, TOKEN_DIM)
        self.proj = nn.Linear(TOKEN_DIM * SPLITS[2][0] ** 2, embed_dim)

    def dynamic_feat_size(self, img_size: Size) -> Size:
        """Return the grid of an image; timm calls it for feature maps."""
        return grid(img_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, D) of images (B, C, H, W), row by row."""
        check_size(images, self.img_size)
        return self.tokens(images)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, D) of images of any size that has a grid."""
        x = images
        for layer, split in zip((self.first, self.second), SPLITS):
            size = split_size((x.shape[2], x.shape[3]), split)
            x = layer(soft_split(x, split)).transpose(1, 2).unflatten(2, size)  # (B, L, 64) -> (B, 64, h, w)
        return self.proj(soft_split(x, SPLITS[2]))


def soft_split(x: Tensor, split: tuple[int, int, int]) -> Tensor:
    """Return overlapping windows as tokens: (B, C, H, W) -> (B, h * w, C * kernel * kernel)."""
    kernel, stride, padding = split
    return F.unfold(x, kernel, stride=stride, padding=padding).transpose(1, 2)


def split_size(size: Size, split: tuple[int, int, int]) -> Size:
    """Return the number of windows (down, across) of a soft split."""
    kernel, stride, padding = split
    down, across = ((length + 2 * padding - kernel) // stride + 1 for length in size)
    return down, across


def grid(img_size: Size) -> Size:
    """Return the number of tokens (down, across) of an image.

    >>> grid((256, 128)), grid((224, 224))
    ((16, 8), (14, 14))
    """
    size = img_size
    for split in SPLITS:
        size = split_size(size, split)
    if min(size) < 1:
        raise UserError(f"INPUT.SIZE_TRAIN: {tuple(img_size)} is smaller than one token of {STRIDE} pixels")
    return size


class TokenLayer(nn.Module, ABC):
    """One transformer layer that reduces the token width; the residual connection carries the values, not the input.

    Args:
        dim, width: input and output width of the tokens.
        bias: whether queries, keys and values have one.
        drop: dropout rate.
    """

    def __init__(self, dim: int, width: int, bias: bool, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(drop)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(drop))

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the attention output (B, N, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, width)."""
        query, key, value = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = value + self.drop(self.proj(self.attend(query, key, value)))
        return x + self.mlp(self.norm2(x))


class Softmax(TokenLayer):
    """Softmax attention with one head; scaled by the input width, as published."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width, bias=False, drop=0.0)
        self.scale = dim**-0.5

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, scale=self.scale)


class Performer(TokenLayer):
    """Attention through positive random features, linear in N [Choromanski et al., ICLR 2021].

    The random features are drawn once and stored with the weights.
    """

    features: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width, bias=True, drop=DROP)
        count = width // 2
        self.register_buffer("features", nn.init.orthogonal_(torch.empty(count, width)) * math.sqrt(count))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):  # exponentials of squares overflow 16 bits
            query, key, value = query.float(), key.float(), value.float()
            query, key = self.kernel(query), self.kernel(key)  # (B, N, m)
            total = query @ key.sum(1).unsqueeze(2)  # (B, N, 1)
            return query @ (key.transpose(1, 2) @ value) / (total + 1e-8)

    def kernel(self, x: Tensor) -> Tensor:
        """Return features (B, N, m); their inner products approximate exp(x . y)."""
        features = self.features.float()
        return torch.exp(x @ features.t() - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(len(features))


def t2t_vit(layer: Layer, **options: Any) -> VisionTransformer:
    """Return timm's VisionTransformer with the tokens-to-token stem.

    Args:
        layer: attention of the stem, `Performer` or `Softmax`.
        options: for VisionTransformer; `depth`, `embed_dim`, `num_heads` and `mlp_ratio` set the published sizes.
    """
    net: Any = VisionTransformer(
        patch_size=STRIDE[0],
        qkv_bias=False,
        norm_layer=nn.LayerNorm,
        embed_layer=partial(TokensToToken, layer=layer),
        **options,
    )
    _, count, dim = net.pos_embed.shape
    del net.pos_embed
    net.register_buffer("pos_embed", sinusoids(count, dim))  # fixed, as published; resampled for another grid
    return net


def sinusoids(count: int, dim: int) -> Tensor:
    """Return the position embedding (1, count, dim): sines of falling frequency in the even, cosines in the odd features.

    Positions count the class token, then the patches row by row, for any shape of the grid.
    """
    even = torch.arange(dim, dtype=torch.float64) // 2 * 2  # 0, 0, 2, 2, ...
    angles = torch.arange(count, dtype=torch.float64).unsqueeze(1) / 10000 ** (even / dim)
    angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return angles.float().unsqueeze(0)
