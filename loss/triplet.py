"""Batch-hard triplet loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .precision import in_float32


class TripletLoss(nn.Module):
    """Pull the farthest image of the same identity, push the nearest of another (Hermans et al., 2017, arXiv:1703.07737).

    Images without a second image of their identity, or without another identity, in the batch are no anchors, so
    batches need not be P x K; a batch without any anchor has loss 0.

    Args:
        margin: by how much the positive must be nearer, in embedding distance; None = soft margin, log(1 + exp(d_ap - d_an)).
    """

    def __init__(self, margin: float | None = None) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of the anchors, (...), of features (..., B, D) with labels (B,)."""
        hardest_positive, hardest_negative, is_anchor = mine_hardest(pairwise_distances(features), labels)
        gap = torch.where(is_anchor, hardest_positive - hardest_negative, 0.0)  # (..., B)
        losses = F.softplus(gap) if self.margin is None else F.relu(gap + self.margin)
        return torch.where(is_anchor, losses, 0.0).sum(-1) / is_anchor.sum().clamp(min=1)


def pairwise_distances(features: Tensor) -> Tensor:
    """Return euclidean distances (..., B, B) of features (..., B, D); equal features have distance 1e-6 and gradient 0."""
    squares = features.square().sum(-1)
    products = features @ features.mT
    return (squares[..., :, None] + squares[..., None, :] - 2 * products).clamp(min=1e-12).sqrt()


def mine_hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each image's farthest positive and nearest negative, both (..., B), and whether it has both, (B,)."""
    same = labels[:, None] == labels[None, :]
    farthest_positive = distances.masked_fill(~same, -torch.inf).max(-1).values  # no farther than itself: none
    nearest_negative = distances.masked_fill(same, torch.inf).min(-1).values
    num_same = same.sum(-1)  # itself included
    return farthest_positive, nearest_negative, (num_same > 1) & (num_same < len(labels))
