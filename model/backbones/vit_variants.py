"""Vision transformers of other re-ID projects: TransReID's ViT-S and PASS."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PART_TOKENS = 3  # part tokens of PASS


class QueryScale(nn.Module):
    """Multiplies queries by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x * self.factor


def transreid_vit_small(**options: Any) -> VisionTransformer:
    """Return the original TransReID's ViT-S: 8 blocks of width 768, no bias in queries, keys and values.

    Its attention is scaled by the root of the width instead of the head's width; the query norm applies the factor.
    """
    sizes: dict[str, Any] = {"embed_dim": 768, "depth": 8, "num_heads": 8, "mlp_ratio": 3.0, **options}
    net = VisionTransformer(qkv_bias=False, **sizes)
    for block in net.blocks:
        attention: Any = block.attn
        attention.q_norm = QueryScale((attention.head_dim / sizes["embed_dim"]) ** 0.5)
    return net


def pass_vit(**options: Any) -> VisionTransformer:
    """Return PASS's ViT with three part tokens behind the class token [Zhu et al., ECCV 2022, arXiv:2203.03931].

    The embedding is the class token; the part tokens are timm's register tokens.
    """
    return VisionTransformer(reg_tokens=PART_TOKENS, **options)
