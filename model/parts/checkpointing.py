"""Activation checkpointing of a block: less memory, more arithmetic (Chen et al., 2016, arXiv:1604.06174)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, tokens: Tensor, recompute: bool, **options: bool) -> Tensor:
    """Return `block(tokens, **options)`.

    Args:
        recompute: store only the input; compute the block again in the backward pass, with the same random draws.
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(partial(block, **options), tokens, use_reentrant=False)
    return block(tokens, **options)
