"""Center loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .float32 import in_float32


class CenterLoss(nn.Module):
    """Mean squared distance of embeddings to the learned centre of their class (Wen et al., ECCV 2016).

    The gradient of the centres is that of the unweighted loss: with a small `weight` they would otherwise never reach their
    classes. They need their own optimizer (SGD, rate 0.5).

    Args:
        num_classes, embed_dim: C and D; `centers` is (C, D).
        weight: factor of the loss and of its gradient with respect to the embeddings.
    """

    def __init__(self, num_classes: int, embed_dim: int, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.centers = nn.Parameter(torch.randn(num_classes, embed_dim))

    @in_float32
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted loss () of features (B, D) with labels (B,)."""
        centers = self.centers[labels]  # (B, D)
        for_features = mean_squared_distance(features, centers.detach())
        for_centers = mean_squared_distance(features.detach(), centers)
        value_free = for_centers - for_centers.detach()  # 0, with a gradient
        return self.weight * for_features + value_free


def mean_squared_distance(features: Tensor, centers: Tensor) -> Tensor:
    """Return the mean over B of the squared euclidean distances between (B, D) and (B, D)."""
    return (features - centers).square().sum(1).mean()
