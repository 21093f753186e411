"""Embeddings and labels -> named loss terms; owns the ID classifiers and the centres."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from yacs.config import CfgNode

from ..common.errors import choose
from .camera_proxies import CameraProxies, ProxySplit
from .center import CenterLoss
from .circle import CircleLoss
from .cluster_memory import ClusterMemory
from .cross_batch_memory import CrossBatchMemory
from .distillation import Distillation
from .id_classifiers import AMSoftmax, ArcFace, Circle, CosFace, SoftmaxHead
from .reid_loss import ReidLoss
from .triplet import TripletLoss

__all__ = [
    "HEADS",
    "METRICS",
    "AMSoftmax",
    "ArcFace",
    "CameraProxies",
    "CenterLoss",
    "Circle",
    "CircleLoss",
    "ClusterMemory",
    "CosFace",
    "CrossBatchMemory",
    "Distillation",
    "ProxySplit",
    "ReidLoss",
    "SoftmaxHead",
    "TripletLoss",
    "build_loss",
]

# LOSS.ID -> a classifier from (config, D features, C classes)
HEADS: dict[str, Callable[[CfgNode, int, int], SoftmaxHead]] = {
    "softmax": lambda cfg, dim, classes: SoftmaxHead(dim, classes),
    "arcface": lambda cfg, dim, classes: ArcFace(dim, classes, cfg.LOSS.SCALE, cfg.LOSS.ID_MARGIN),
    "cosface": lambda cfg, dim, classes: CosFace(dim, classes, cfg.LOSS.SCALE, cfg.LOSS.ID_MARGIN),
    "amsoftmax": lambda cfg, dim, classes: AMSoftmax(dim, classes, cfg.LOSS.SCALE, cfg.LOSS.ID_MARGIN),
    "circle": lambda cfg, dim, classes: Circle(dim, classes, cfg.LOSS.SCALE, cfg.LOSS.ID_MARGIN),
}
# LOSS.METRIC -> a loss (K,) of features (K, B, D) and labels (B,), and of past features with LOSS.MEMORY
METRICS: dict[str, Callable[[CfgNode], nn.Module]] = {
    "triplet": lambda cfg: TripletLoss(None if cfg.LOSS.SOFT_MARGIN else cfg.LOSS.MARGIN),
    "circle": lambda cfg: CircleLoss(cfg.LOSS.PAIR_MARGIN, cfg.LOSS.PAIR_SCALE),
}


def build_loss(
    cfg: CfgNode,
    num_classes: int,
    embed_dim: int,
    num_branches: int = 1,
    teacher: Tensor | None = None,
    num_images: int = 0,
) -> ReidLoss:
    """Return the loss of a model with `num_branches` embeddings of `embed_dim` features.

    Args:
        num_classes: training classes, or the most clusters that there can be.
        teacher: the embeddings of all training images (N, T) that LOSS.DISTILL asks for.
        num_images: training images, N, which UNSUPERVISED.PROXIES camera asks for.
    """
    make_head = choose("LOSS.ID", cfg.LOSS.ID, {**HEADS, "none": None})
    make_metric = choose("LOSS.METRIC", cfg.LOSS.METRIC, {**METRICS, "none": None})
    memory_size, center_weight = cfg.LOSS.MEMORY, cfg.LOSS.CENTER_WEIGHT
    return ReidLoss(
        heads=[make_head(cfg, embed_dim, num_classes) for _ in range(num_branches)] if make_head else [],
        metric=make_metric(cfg) if make_metric else None,
        memory=CrossBatchMemory(memory_size, num_branches, embed_dim, cfg.LOSS.MEMORY_START) if memory_size else None,
        center=CenterLoss(num_classes, embed_dim, center_weight) if center_weight else None,
        distillation=Distillation(teacher, embed_dim, cfg.LOSS.DISTILL_WEIGHT, cfg.LOSS.RELATION_WEIGHT)
        if teacher is not None
        else None,
        clusters=build_cluster_memory(cfg, embed_dim, num_images),
        metric_norm=cfg.LOSS.METRIC_NORM,
        label_smooth=cfg.LOSS.LABEL_SMOOTH,
        id_weight=cfg.LOSS.ID_WEIGHT,
        metric_weight=cfg.LOSS.METRIC_WEIGHT,
    )


def build_cluster_memory(cfg: CfgNode, embed_dim: int, num_images: int) -> ClusterMemory | CameraProxies | None:
    """Return the loss against clusters of images without labels; None where people are known, or its weight is 0."""
    options = cfg.UNSUPERVISED
    if options.CLUSTERING == "none" or not options.WEIGHT:
        return None
    shared = options.TEMPERATURE, options.MOMENTUM, options.UPDATE, options.WEIGHT
    if options.PROXIES == "camera":
        return CameraProxies(embed_dim, num_images, *shared, options.INTER_WEIGHT, options.NEGATIVES)
    return ClusterMemory(embed_dim, *shared)
