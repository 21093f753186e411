"""Circle loss of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .float32 import in_float32
from .triplet import same_and_other


class CircleLoss(nn.Module):
    """Pull all positives and push all negatives of each image, the farther from their optimum the harder (Sun et al., CVPR 2020).

    The optimum is 1 + m for cosines s_p of positives and -m for cosines s_n of negatives. Images without a positive or without
    a negative are no anchors; a batch without anchors has loss 0.

    Args:
        margin: m.
        scale: gamma, factor of the logits.
    """

    name = "circle"

    def __init__(self, margin: float = 0.25, scale: float = 128.0) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale

    @in_float32
    def forward(
        self, features: Tensor, labels: Tensor, past: Tensor | None = None, past_labels: Tensor | None = None
    ) -> Tensor:
        """Return the mean loss of the anchors, (...), of features (..., B, D) with labels (B,).

        Args:
            past, past_labels: (..., M, D) and (M,), past embeddings, compared in addition; label -1 = empty place.
        """
        anchors = F.normalize(features, dim=-1)
        others = anchors if past is None else torch.cat([anchors, F.normalize(past, dim=-1)], dim=-2)
        cosines = anchors @ others.mT  # (..., B, B + M)
        is_same, is_other = same_and_other(labels, past_labels, itself=False)
        fixed = cosines.detach()
        pull = -self.scale * (1 + self.margin - fixed).clamp(min=0) * (cosines - (1 - self.margin))
        push = self.scale * (fixed + self.margin).clamp(min=0) * (cosines - self.margin)
        is_anchor = is_same.any(-1) & is_other.any(-1)
        total = log_sum_exp(pull, is_same & is_anchor[:, None]) + log_sum_exp(push, is_other & is_anchor[:, None])
        losses = torch.where(is_anchor, F.softplus(total), 0.0)
        return losses.sum(-1) / is_anchor.sum().clamp(min=1)


def log_sum_exp(values: Tensor, chosen: Tensor) -> Tensor:
    """Return log(sum(exp)) over the chosen (B, N) of values (..., B, N); 0, without a gradient, where none are chosen."""
    is_empty = ~chosen.any(-1, keepdim=True)
    filled = torch.where(is_empty, 0.0, values.masked_fill(~chosen, -torch.inf))
    return torch.where(is_empty[..., 0], 0.0, filled.logsumexp(-1))
