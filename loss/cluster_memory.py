"""Cluster contrast: embeddings against one stored embedding per cluster of images without labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .float32 import in_float32

UPDATES = ("all", "hardest")


class ClusterMemory(nn.Module):
    """Cross entropy over the cosines to the clusters' centroids (Cluster Contrast, Dai et al., ACCV 2022, arXiv:2103.11568).

    After the loss of a batch, in training, a query q of cluster k moves the centroid: c_k <- m c_k + (1 - m) q, scaled to unit
    length again. The centroids carry no gradient. They are in a buffer, so a resumed run continues exactly, and every
    rank that sees the whole batch has the same.

    Args:
        embed_dim: D.
        temperature: divisor of the cosines.
        momentum: m, share of a centroid that an update keeps.
        update: "all" = each image of a cluster, one after the other; "hardest" = only the one with the smallest cosine.
        weight: factor of the loss.
    """

    centroids: Tensor

    def __init__(
        self, embed_dim: int, temperature: float = 0.05, momentum: float = 0.1, update: str = "all", weight: float = 1.0
    ) -> None:
        super().__init__()
        self.temperature, self.momentum, self.update, self.weight = temperature, momentum, update, weight
        self.register_buffer("centroids", torch.zeros(0, embed_dim))

    def start(self, centroids: Tensor, split: object = None) -> None:
        """Take the centroids (C, D) of a new clustering; cameras, by which `split` has split them, do not matter here."""
        self.centroids = F.normalize(centroids.to(self.centroids), dim=1)

    @in_float32
    def forward(self, features: Tensor, labels: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weighted loss () of features (B, D) of clusters (B,), and the share () that is nearest to its centroid.

        `index`, the positions (B,) of the training images, does not matter here.
        """
        queries = F.normalize(features, dim=1)
        cosines = queries @ self.centroids.mT  # (B, C)
        loss = self.weight * F.cross_entropy(cosines / self.temperature, labels)
        accuracy = (cosines.detach().argmax(1) == labels).float().mean()
        if self.training:
            to_own = cosines.detach().gather(1, labels[:, None])[:, 0] if self.update == "hardest" else None
            self.centroids = move_centroids(self.centroids, queries.detach(), labels, self.momentum, to_own)
        return loss, accuracy

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        """Accept another number of clusters."""
        resize_to_saved(self, "centroids", state_dict.get(f"{prefix}centroids"))
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def move_centroids(
    centroids: Tensor, queries: Tensor, labels: Tensor, momentum: float, to_own: Tensor | None = None
) -> Tensor:
    """Return the centroids (C, D) after the updates by unit-length queries (B, D) with labels (B,).

    The result is another tensor: a graph keeps the old one.

    Args:
        momentum: share of a centroid that an update keeps.
        to_own: (B,) cosines to their centroids; then only the smallest of each label updates. None = each query, one after the other.
    """
    turn = turns(labels, to_own)
    rounds = int(turn.max()) + 1 if to_own is None else 1
    moved = torch.cat([centroids, centroids.new_zeros(1, centroids.shape[1])])  # and a place for the others
    for number in range(rounds):
        places = torch.where(turn == number, labels, len(centroids))
        mixed = momentum * moved[places] + (1 - momentum) * queries
        moved[places] = F.normalize(mixed, dim=1)
    return moved[:-1]


def resize_to_saved(module: nn.Module, name: str, saved: object) -> None:
    """Give a buffer (C, ...) of the module the first size of a saved one that is to be loaded, if only that differs."""
    own = getattr(module, name)
    if isinstance(saved, Tensor) and saved.shape[1:] == own.shape[1:]:
        setattr(module, name, torch.empty_like(saved, dtype=own.dtype, device=own.device))


def turns(labels: Tensor, order: Tensor | None = None) -> Tensor:
    """Return the number (B,) of rows with the same label that come before each.

    Args:
        order: (B,) values by which the rows of a label are ordered, smallest first; None, or equal values: by position.

    >>> turns(torch.tensor([5, 3, 5, 5])).tolist(), turns(torch.tensor([5, 3, 5]), torch.tensor([0.9, 0.0, 0.1])).tolist()
    ([0, 0, 1, 2], [1, 0, 0])
    """
    same = labels[:, None] == labels[None, :]
    is_before = torch.ones_like(same).tril(-1)
    if order is not None:
        is_before = (order[None, :] < order[:, None]) | ((order[None, :] == order[:, None]) & is_before)
    return (same & is_before).sum(1)
