"""Model and loss as one module, so that DDP and `torch.compile` wrap one thing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..loss import ReidLoss
from ..model import ReidModel


class TrainingModule(nn.Module):
    """batch -> loss terms.

    Args:
        model: images (B, 3, H, W), camids (B,), viewids (B,) -> embeddings before and after the neck, each (B, K, D).
        loss: those and labels (B,) -> named, weighted terms to add up, and numbers to watch.
    """

    model: ReidModel
    loss: ReidLoss

    def __init__(self, model: ReidModel, loss: ReidLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (terms, stats) of scalars, e.g. ({"id": (), "triplet": ()}, {"accuracy": ()})."""
        embeddings = self.model(batch.images, batch.camids, batch.viewids)
        return self.loss(embeddings.before, embeddings.after, batch.labels)
