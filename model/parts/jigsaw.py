"""Jigsaw patch module (JPM): local branches on shifted and shuffled patches [TransReID, section 3.3]."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ...common.errors import UserError
from .blocks import run_block


class Jigsaw(nn.Module):
    """Tokens before the last block -> tokens of `num_parts` parts after the jigsaw's last block.

    All parts share one block and norm, initialised as copies of the backbone's, and pass through it in one call.

    Args:
        block, norm: the backbone's last ones.
        num_prefix: class and register tokens before the patches; each part gets a copy of them.
        num_patches: N.
        shift, groups, rearrange: see `patch_order`.
        only_first: return the first token alone; the block is a `ClassTokenBlock`.
    Raises:
        ValueError: more parts than patches.
    """

    parts: Tensor

    def __init__(
        self,
        block: nn.Module,
        norm: nn.Module,
        num_prefix: int,
        num_patches: int,
        num_parts: int,
        shift: int,
        groups: int,
        rearrange: bool,
        only_first: bool = False,
    ) -> None:
        super().__init__()
        if num_parts > num_patches:
            raise UserError(
                f"MODEL.NUM_PARTS: {num_parts} parts need at least as many patches, the image has {num_patches}"
            )
        self.block, self.norm = copy.deepcopy(block), copy.deepcopy(norm)
        self.num_prefix = num_prefix
        self.recompute = False
        self.only_first = only_first
        order = patch_order(num_patches, shift, groups) if rearrange else torch.arange(num_patches)
        length = num_patches // num_parts  # a remainder at the end is in no part, as in the original
        self.register_buffer("parts", order[: num_parts * length].view(num_parts, length), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, prefix + N, D) -> (B * num_parts, prefix + N // num_parts, D), or (B * num_parts, 1, D)."""
        num_parts = len(self.parts)
        prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        local = patches[:, self.parts]  # (B, parts, length, D)
        shared = prefix.unsqueeze(1).expand(-1, num_parts, -1, -1)
        parts = torch.cat([shared, local], dim=2).flatten(0, 1)
        options = {"only_first": True} if self.only_first else {}
        return self.norm(run_block(self.block, parts, self.recompute, **options))


def patch_order(num_patches: int, shift: int, groups: int) -> Tensor:
    """Return the index of the patch at each position, (N,) or a little longer.

    As in the original code: the first `shift - 1` patches move to the end (its count includes the class token), the last but one
    is repeated until the length divides by `groups`, then patches are taken from the groups in turn.

    >>> patch_order(8, shift=3, groups=2).tolist()
    [2, 6, 3, 7, 4, 0, 5, 1]
    """
    order = torch.arange(num_patches).roll(-max(shift - 1, 0))
    filled = torch.cat([order, order[-2:-1].repeat(-num_patches % groups)])
    return filled.view(groups, -1).t().flatten()
