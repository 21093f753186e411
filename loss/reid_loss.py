"""The training loss: ID, metric and center loss over the branches of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import UserError
from .camera_proxies import CameraProxies, ProxySplit
from .center import CenterLoss
from .cluster_memory import ClusterMemory
from .cross_batch_memory import CrossBatchMemory
from .distillation import Distillation
from .float32 import in_float32
from .id_classifiers import SoftmaxHead


class ReidLoss(nn.Module):
    """Named, weighted loss terms of embeddings before and after the BN-neck; computed in float32 under autocast.

    The metric and the center loss use the embedding before the neck, the classifiers the one after it (Luo et al., 2019).

    Attributes:
        num_classes: classes in use; the ID classifiers have rows for more if clusters are the classes. None = all.

    Args:
        heads: one ID classifier per branch, each `scores(features)` and `penalise(scores, labels)`; none = no ID loss.
        metric: loss (K,) of features (K, B, D) and labels (B,), or None; its `name` names the term.
        center: center loss of the global branch, already weighted, or None.
        memory: past embeddings, compared in addition by the metric loss, or None.
        distillation: losses against a teacher, of the global branch, already weighted, or None.
        clusters: loss of the global branch against the centroids of clusters, or of their proxies, already weighted, or None.
        metric_norm: length to which the embeddings are scaled for the metric loss; 0 = as they are.
        label_smooth: probability mass that the ID loss spreads over all classes.
        id_weight, metric_weight: factors of the terms.
    """

    def __init__(
        self,
        heads: Sequence[SoftmaxHead],
        metric: nn.Module | None = None,
        center: CenterLoss | None = None,
        memory: CrossBatchMemory | None = None,
        distillation: Distillation | None = None,
        clusters: ClusterMemory | CameraProxies | None = None,
        *,
        metric_norm: float = 0.0,
        label_smooth: float = 0.0,
        id_weight: float = 1.0,
        metric_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.metric = metric
        self.center = center
        self.memory = memory
        self.distillation = distillation
        self.clusters = clusters
        self.num_classes: int | None = None
        self.metric_norm = metric_norm
        self.label_smooth = label_smooth
        self.id_weight = id_weight
        self.metric_weight = metric_weight

    @torch.no_grad()
    def start_classes(self, centroids: Tensor, split: ProxySplit | None = None) -> None:
        """Replace the classes by clusters with these centroids (C, D), which are also the first weights of the classifier.

        The classifiers must have C rows or more, and there is one branch at most.

        Args:
            split: the clusters split by camera, which camera proxies need.
        """
        self.num_classes = len(centroids)
        if self.clusters is not None:
            self.clusters.start(centroids, split)
        for head in cast("list[SoftmaxHead]", list(self.heads)):
            head.weight[: len(centroids)] = F.normalize(centroids.to(head.weight), dim=1)

    def load_classifiers(self, weights: Mapping[str, Tensor]) -> None:
        """Fill the ID classifiers.

        Args:
            weights: branch -> (C, D).
        Raises:
            UserError: the number of branches, classes or features differs; nothing is changed then.
        """
        own = {str(branch): cast(Tensor, head.weight) for branch, head in enumerate(self.heads)}
        found, wanted = ({k: tuple(v.shape) for k, v in side.items()} for side in (weights, own))
        if found != wanted:
            raise UserError(
                f"the ID classifiers (branch: people, features) are {_shapes(found)} in the file, {_shapes(wanted)} here; they fit "
                "the same people and branches only"
            )
        with torch.no_grad():
            for branch, weight in own.items():
                weight.copy_(weights[branch])

    @in_float32
    def forward(
        self, before: Tensor, after: Tensor, labels: Tensor, index: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (terms, stats) of embeddings (B, K, D) of the training images `index` (B,) with labels (B,).

        `terms` are the scalars to add up that are on: "cluster", "id", the name of the metric loss, "center", "distill",
        "relation". `stats` are scalars without a gradient: "accuracy", the fraction of the batch that the classifier of the global
        branch gets right, without margin; without a classifier that of the nearest centroids. `index` is needed with distillation
        and camera proxies only.
        """
        terms: dict[str, Tensor] = {}
        stats: dict[str, Tensor] = {}
        if self.clusters is not None:
            terms["cluster"], stats["accuracy"] = self.clusters(after[:, 0], labels, index)
        if self.heads:
            id_losses, stats["accuracy"] = self.id_losses(after, labels)
            terms["id"] = self.id_weight * mean_of_branches(id_losses)
        if self.metric is not None:
            terms[str(self.metric.name)] = self.metric_weight * mean_of_branches(self.metric_losses(before, labels))
        if self.center is not None:
            terms["center"] = self.center(before[:, 0], labels)
        if self.distillation is not None:
            terms.update(self.distillation(before[:, 0], cast(Tensor, index)))
        return terms, stats

    def metric_losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the metric loss of each branch (K,); in training the batch then enters the memory."""
        branches = features.transpose(0, 1)  # (B, K, D) -> (K, B, D)
        if self.metric_norm:
            branches = self.metric_norm * F.normalize(branches, dim=-1)
        metric = cast(nn.Module, self.metric)
        if self.memory is None:
            return metric(branches, labels)
        losses = metric(branches, labels, *self.memory.read())
        if self.training:
            self.memory.add(branches.detach(), labels)
        return losses

    def id_losses(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ID loss of each branch (K,) and the accuracy of the first ()."""
        heads = cast("list[SoftmaxHead]", list(self.heads))
        scores = [
            head.scores(feature)[:, : self.num_classes] for head, feature in zip(heads, features.unbind(1), strict=True)
        ]
        logits = [head.penalise(score, labels) for head, score in zip(heads, scores, strict=True)]
        losses = [F.cross_entropy(logit, labels, label_smoothing=self.label_smooth) for logit in logits]
        return torch.stack(losses), (scores[0].detach().argmax(1) == labels).float().mean()


def mean_of_branches(losses: Tensor) -> Tensor:
    """Return half the global branch's loss and half the mean of the local ones, of (K,) [TransReID]; K = 1: the loss itself."""
    return losses[0] if len(losses) == 1 else 0.5 * losses[0] + 0.5 * losses[1:].mean()


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{branch}: {shape}" for branch, shape in shapes.items()) or "not there"
