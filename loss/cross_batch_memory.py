"""Cross-batch memory: embeddings of past batches for the metric loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = -1  # label of an empty place


class CrossBatchMemory(nn.Module):
    """The last `size` embeddings with their labels (XBM, Wang et al., CVPR 2020, arXiv:1912.06798).

    They carry no gradient. All state is in buffers, so a resumed run continues exactly; nothing waits for the device.

    Args:
        size: M, embeddings kept.
        num_branches, embed_dim: K and D.
        start: batches before the memory is used; it is filled from the first batch.
    """

    features: Tensor
    labels: Tensor
    batches: Tensor
    next: Tensor

    def __init__(self, size: int, num_branches: int, embed_dim: int, start: int = 0) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("features", torch.zeros(num_branches, size, embed_dim))
        self.register_buffer("labels", torch.full((size,), EMPTY))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))  # number of batches added
        self.register_buffer("next", torch.zeros((), dtype=torch.long))  # the place of the oldest embedding

    def read(self) -> tuple[Tensor, Tensor]:
        """Return copies of the features (K, M, D) and labels (M,); before `start` all labels are `EMPTY`."""
        labels = torch.where(self.batches >= self.start, self.labels, EMPTY)
        return self.features.clone(), labels  # copies, because the graph keeps them and `add` overwrites in place

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Replace the oldest embeddings by the features (K, B, D) and labels (B,) of a batch."""
        size = len(self.labels)
        features, labels = features[:, -size:], labels[-size:]
        places = (self.next + torch.arange(len(labels), device=labels.device)) % size
        self.features[:, places] = features.to(self.features.dtype)
        self.labels[places] = labels
        self.next.copy_((self.next + len(labels)) % size)
        self.batches += 1
