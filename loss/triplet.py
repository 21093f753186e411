"""Batch-hard triplet loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .float32 import in_float32


class TripletLoss(nn.Module):
    """Pull the farthest image of the same identity, push the nearest of another (Hermans et al., 2017, arXiv:1703.07737).

    An image is an anchor if the batch holds a second image of its identity and an image of another one, so batches need not
    be P x K; a batch without anchors has loss 0.

    Args:
        margin: required difference of the distances to negative and positive; None = soft margin, log(1 + exp(d_ap - d_an)).
    """

    name = "triplet"

    def __init__(self, margin: float | None = None) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(
        self, features: Tensor, labels: Tensor, past: Tensor | None = None, past_labels: Tensor | None = None
    ) -> Tensor:
        """Return the mean loss of the anchors, (...), of features (..., B, D) with labels (B,).

        Args:
            past, past_labels: (..., M, D) and (M,), past embeddings, mined in addition; label -1 = empty place.
        """
        distances = pairwise_distances(features)
        if past is not None:
            distances = torch.cat([distances, distances_between(features, past)], dim=-1)  # (..., B, B + M)
        hardest_positive, hardest_negative, is_anchor = mine_hardest(distances, labels, past_labels)
        gap = torch.where(is_anchor, hardest_positive - hardest_negative, 0.0)  # (..., B)
        losses = F.softplus(gap) if self.margin is None else F.relu(gap + self.margin)
        return torch.where(is_anchor, losses, 0.0).sum(-1) / is_anchor.sum().clamp(min=1)


def pairwise_distances(features: Tensor) -> Tensor:
    """Return euclidean distances (..., B, B) of features (..., B, D); equal features have distance 1e-6 and gradient 0."""
    squares = features.square().sum(-1)
    products = features @ features.mT
    return (squares[..., :, None] + squares[..., None, :] - 2 * products).clamp(min=1e-12).sqrt()


def distances_between(features: Tensor, past: Tensor) -> Tensor:
    """Return euclidean distances (..., B, M) of features (..., B, D) to past ones (..., M, D)."""
    squares = features.square().sum(-1)[..., :, None] + past.square().sum(-1)[..., None, :]
    return (squares - 2 * features @ past.mT).clamp(min=1e-12).sqrt()


def mine_hardest(distances: Tensor, labels: Tensor, past_labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distances to each image's farthest positive and nearest negative, both (..., B), and whether it has both, (B,).

    Args:
        distances: (..., B, B + M), to the batch with labels (B,) and to past embeddings with labels (M,).
    """
    same, other = same_and_other(labels, past_labels)
    farthest_positive = distances.masked_fill(~same, -torch.inf).max(-1).values  # the image itself if it has none
    nearest_negative = distances.masked_fill(~other, torch.inf).min(-1).values
    is_anchor = (same.sum(-1) > 1) & other.any(-1)  # the count of positives includes the image itself
    return farthest_positive, nearest_negative, is_anchor


def same_and_other(labels: Tensor, past_labels: Tensor | None, itself: bool = True) -> tuple[Tensor, Tensor]:
    """Return which columns are of the row's identity and which of another, (B, B + M); empty places are neither.

    Args:
        labels, past_labels: (B,) of the batch and (M,) of past embeddings, -1 = empty place.
        itself: whether an image counts as one of its identity.
    """
    same = labels[:, None] == labels[None, :]
    other = ~same
    if not itself:
        same = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if past_labels is None:
        return same, other
    match, is_there = labels[:, None] == past_labels[None, :], past_labels[None, :] >= 0
    return torch.cat([same, match & is_there], 1), torch.cat([other, ~match & is_there], 1)
