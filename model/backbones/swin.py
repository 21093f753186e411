"""SOLIDER's Swin: a semantic weight scales and shifts the features between stages [Chen et al., CVPR 2023].

arXiv:2303.17602. The rest is timm's Swin, so images of any size and aspect ratio work.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn import functional as F


def semantic_swin(name: str, semantic_weight: float = 0.2, **options: Any) -> nn.Module:
    """Return timm's Swin `name` with a modulation behind each of its three downsamplings.

    Args:
        semantic_weight: 0 = appearance, for identities; 1 = semantics; 0.2 for re-ID [section 4].
        options: of timm's SwinTransformer.
    """
    net: Any = timm.create_model(name, pretrained=False, always_partition=True, **options)
    for layer in net.layers:
        for block in layer.blocks:
            block.__class__ = PaddedBlock  # timm's stage has no option for it; pyproject.toml pins the tested versions
    for layer in net.layers[1:]:
        layer.downsample = Modulated(layer.downsample, semantic_weight)
    return net


class PaddedBlock(SwinTransformerBlock):
    """A block that pads the last windows before the shift, as mmdetection does; timm pads after it."""

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        down, across = (-size % window for size, window in zip((height, width), self.window_size))
        return super()._attn(F.pad(x, (0, 0, 0, across, 0, down)))[:, :height, :width]


class Modulated(nn.Module):
    """Scales a layer's output by softplus(w) and shifts it by b.

    w and b are linear maps of (semantic weight, 1 - semantic weight), learned in SOLIDER's pretraining and then frozen.
    """

    semantics: Tensor

    def __init__(self, layer: Any, semantic_weight: float) -> None:
        super().__init__()
        self.layer = layer
        width = layer.reduction.out_features
        self.scale, self.shift = (nn.Linear(2, width).requires_grad_(False) for _ in range(2))
        for linear in (self.scale, self.shift):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        pair = torch.tensor([semantic_weight, 1 - semantic_weight])
        self.register_buffer("semantics", pair, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h / 2, w / 2, 2 * C)."""
        return self.layer(x) * F.softplus(self.scale(self.semantics)) + self.shift(self.semantics)
