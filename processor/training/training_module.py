"""Model and loss as one module: images -> embeddings, embeddings of the whole batch -> loss terms."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from ...loss import ReidLoss
from ...model import ReidModel
from ..distributed.ddp import SingleProcess

Losses = tuple[dict[str, Tensor], dict[str, Tensor]]


class TrainingModule(nn.Module):
    """batch -> loss terms.

    Args:
        model: its backbone makes embeddings (B, K, D) of images (B, 3, H, W), camids (B,) and viewids (B,).
        loss: embeddings before and after the neck, and labels (B,) -> named, weighted terms to add up, and numbers to watch.
    """

    model: ReidModel
    loss: ReidLoss

    def __init__(self, model: ReidModel, loss: ReidLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.spread: SingleProcess = SingleProcess()

    def forward(self, batch: Any) -> Losses:
        """Return (terms, stats) of scalars, e.g. ({"id": (), "triplet": ()}, {"accuracy": ()})."""
        return self.score(self.embed(batch), batch.labels)

    def embed(self, batch: Any) -> Tensor:
        """Return this process' float32 embeddings before the neck, (B, K, D)."""
        backbone = self.spread.callable(self.model.backbone)
        return backbone(batch.images, batch.camids, batch.viewids).float()

    def score(self, before: Tensor, labels: Tensor) -> Losses:
        """Return (terms, stats) of this process' embeddings before the neck (B, K, D), with labels (B,).

        On several processes these are the terms of the whole batch, the same on all.
        """
        before, labels = self.spread.gather(before), self.spread.gather(labels)
        return self.loss(before, self.model.behind_neck(before), labels)

    def no_sync(self) -> AbstractContextManager:
        """Return a context in which backward passes keep the backbone's gradients to this process."""
        return self.spread.no_sync()

    def finish_gradients(self) -> None:
        """Call before a step: make the gradients of neck and loss equal on all processes.

        They are computed alike, but not on all devices to the last bit, and would drift apart over many steps.
        """
        of_backbone = set(self.model.backbone.parameters())
        others = [parameter for parameter in self.parameters() if parameter not in of_backbone]
        self.spread.average(parameter.grad for parameter in others if parameter.grad is not None)
