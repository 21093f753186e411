"""ViT blocks: the last one when only the class token is read, and activation checkpointing of any block."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class ClassTokenBlock(nn.Module):
    """timm's `Block` with the same parts and names, and an option to compute the first token only.

    The other tokens contribute keys and values only; the first token is the same up to rounding. With twelve blocks this
    saves about 7 % of the arithmetic, and with the jigsaw nearly all of the local branches' cost.

    Args:
        block: timm's block; its parts are used.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, part in block.named_children():
            self.add_module(name, part)

    def forward(self, tokens: Tensor, only_first: bool = False) -> Tensor:
        """(B, N, D) -> (B, N, D), or (B, 1, D) with `only_first`."""
        part: Any = self
        normed = part.norm1(tokens)
        attended = attend_from_first(part.attn, normed) if only_first else part.attn(normed)
        tokens = tokens[:, :1] if only_first else tokens
        tokens = tokens + part.drop_path1(part.ls1(attended))
        return tokens + part.drop_path2(part.ls2(part.mlp(part.norm2(tokens))))


def can_stop_at_first(block: Any) -> bool:
    """Return whether `ClassTokenBlock` is equivalent to the block; timm has variants with other parts."""
    if type(block) is not Block or type(block.attn) is not Attention:
        return False
    return (
        getattr(block.attn, "gate", None) is None and getattr(block.attn, "attn_dim", 0) == block.attn.proj.in_features
    )


def attend_from_first(attention: Any, tokens: Tensor) -> Tensor:
    """Return the attention output (B, 1, D) of the first of the tokens (B, N, D)."""
    width, heads, dropout = attention.attn_dim, attention.num_heads, attention.attn_drop
    weight, bias = attention.qkv.weight, attention.qkv.bias
    parts = (slice(width), slice(width, None))
    (of_query, of_others) = ((weight[part], bias[part] if bias is not None else None) for part in parts)
    query = F.linear(tokens[:, :1], *of_query).unflatten(2, (1, heads, -1))
    others = F.linear(tokens, *of_others).unflatten(2, (2, heads, -1))
    # (B, heads, 1 or N, D / heads) each
    query, key, value = (x.transpose(1, 2) for x in (*query.unbind(2), *others.unbind(2)))
    query, key = attention.q_norm(query), attention.k_norm(key)
    if attention.fused_attn:
        rate = dropout.p if attention.training else 0.0
        gathered = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
    else:
        gathered = dropout((query * attention.scale @ key.mT).softmax(-1)) @ value
    gathered = attention.norm(gathered.transpose(1, 2).flatten(2))  # (B, heads, 1, D / heads) -> (B, 1, D)
    return attention.proj_drop(attention.proj(gathered))


def run_block(block: nn.Module, tokens: Tensor, recompute: bool, **options: bool) -> Tensor:
    """Return `block(tokens, **options)`, with activation checkpointing if asked (Chen et al., 2016, arXiv:1604.06174).

    Args:
        recompute: store only the input; compute the block again in the backward pass, with the same random draws: less
            memory, more arithmetic.
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(partial(block, **options), tokens, use_reentrant=False)
    return block(tokens, **options)
