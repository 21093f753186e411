"""Model and loss as one module: images -> embeddings, embeddings of the whole batch -> loss terms."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ...datasets import Batch
from ...loss import ReidLoss
from ...model import ReidModel
from ..distributed.process_group import ALONE, Ranks

Losses = tuple[dict[str, Tensor], dict[str, Tensor]]


class SingleProcess:
    """Training on one process; `distributed/ddp.py` and `distributed/fsdp.py` hold what spreads it over several."""

    ranks: Ranks = ALONE

    def callable(self, backbone: nn.Module) -> nn.Module:
        """Return the module to call for the backbone, so that its gradients become those of the whole batch."""
        return backbone

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the (size * B, ...) rows of all ranks, in their order, of this rank's (B, ...); carries gradients."""
        return tensor

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Make gradients that every rank has computed equal to the last bit."""

    def no_sync(self) -> AbstractContextManager:
        """Return a context in which ranks do not exchange the backbone's gradients."""
        return nullcontext()


class TrainingModule(nn.Module):
    """batch -> loss terms.

    Args:
        model: its backbone turns images (B, 3, H, W), camids (B,) and viewids (B,) into embeddings (B, K, D).
        loss: embeddings before and after the neck, labels (B,) and positions of the images (B,) -> named, weighted terms to add up, and stats.
        clip_frames: consecutive images of a batch that are one clip, of one label; the loss sees the embeddings of clips.
    """

    model: ReidModel
    loss: ReidLoss

    def __init__(self, model: ReidModel, loss: ReidLoss, clip_frames: int = 1) -> None:
        super().__init__()
        self.clip_frames = clip_frames
        self.model = model
        self.loss = loss
        self.spread: SingleProcess = SingleProcess()

    def forward(self, batch: Batch) -> Losses:
        """Return (terms, stats) of scalars, e.g. ({"id": (), "triplet": ()}, {"accuracy": ()})."""
        return self.score(self.embed(batch), batch.labels, batch.index)

    def embed(self, batch: Batch) -> Tensor:
        """Return this rank's float32 embeddings before the neck, (B, K, D)."""
        backbone = self.spread.callable(self.model.backbone)
        return backbone(batch.images, batch.camids, batch.viewids).float()

    def score(self, before: Tensor, labels: Tensor, index: Tensor) -> Losses:
        """Return (terms, stats) of this rank's embeddings before the neck (B, K, D), with labels (B,).

        Args:
            index: (B,) positions of the images in the training list.

        With several ranks these are the terms of the whole batch, equal on all.
        """
        before, labels, index = (self.spread.gather(tensor) for tensor in (before, labels, index))
        if self.clip_frames > 1:
            before = self.model.pool_frames(before.unflatten(0, (-1, self.clip_frames)))  # (clips, K, D)
            labels, index = labels[:: self.clip_frames], index[:: self.clip_frames]
        return self.loss(before, self.model.behind_neck(before), labels, index)

    def no_sync(self) -> AbstractContextManager:
        """Return a context in which ranks do not exchange the backbone's gradients."""
        return self.spread.no_sync()

    def finish_gradients(self) -> None:
        """Call before a step: make the gradients of neck and loss equal on all ranks.

        Each rank computes them from the whole batch, but on some devices the last bits differ, and would drift apart over many
        steps.
        """
        of_backbone = set(self.model.backbone.parameters())
        others = [parameter for parameter in self.parameters() if parameter not in of_backbone]
        self.spread.average(parameter.grad for parameter in others if parameter.grad is not None)
