"""Running statistics of a new neck, computed from the training images, because the first clusters are found before any step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ...datasets import ReidData, TrainLoader, build_plain_loader
from ...model import ReidModel
from ..distributed.process_group import ALONE, Ranks
from ..embedding.extract import EmbedSettings, extract, join_shares

SAMPLE = 2048  # at least so many images are embedded, if there are; fewer than twice as many
BEFORE = EmbedSettings(neck="before", normalize=False, flip=False, global_only=True)


def stride_of_sample(count: int) -> int:
    """Return n: every n-th of `count` training images is embedded."""
    return max(1, count // SAMPLE)


def build_neck_statistics(
    cfg: CfgNode,
    data: ReidData,
    loader: TrainLoader,
    model: ReidModel,
    device: torch.device,
    precision: torch.dtype,
    ranks: Ranks = ALONE,
) -> None:
    """Start the neck of a training without labels from its images; nothing with labels. Collective."""
    if cfg.UNSUPERVISED.CLUSTERING == "none":
        return
    stride, spec = stride_of_sample(len(data.train)), model.spec
    place = ranks.rank, ranks.size
    images = build_plain_loader(cfg, data, loader, spec.cameras, spec.views, device, *place, stride)
    start_neck(model, images, len(data.train[::stride]), device, precision, ranks)


def start_neck(
    model: ReidModel,
    images: Iterable[Any],
    count: int,
    device: torch.device,
    precision: torch.dtype,
    ranks: Ranks = ALONE,
) -> None:
    """Set mean and variance of the global branch in a batch norm that has seen no batch; another neck is left as it is. Collective.

    Without it, centroids of the first round would be embedded with mean 0 and variance 1, and the batches that are compared with them by
    their own statistics.

    Args:
        images: batches of this rank's share of the sample.
        count: images of the sample, of all ranks together.
    """
    neck = model.neck
    if not isinstance(neck, nn.BatchNorm1d) or not _is_new(neck):
        return
    share = extract(model, images, BEFORE, device, precision, "statistics", ranks.is_first)
    features = join_shares(share, count, ranks)
    mean, variance = ranks.from_first(lambda: _statistics(features))  # type: ignore[arg-type]  # no None on rank 0
    for running, found in ((neck.running_mean, mean), (neck.running_var, variance)):
        running[: len(found)].copy_(torch.tensor(found))  # type: ignore[index]


def _is_new(neck: nn.BatchNorm1d) -> bool:
    """Return whether the statistics are those of a norm that has seen no batch; a file may lack the counter."""
    mean, variance = neck.running_mean, neck.running_var
    return mean is not None and variance is not None and not mean.any() and bool((variance == 1).all())


def _statistics(features: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and variance of each feature of (N, D)."""
    return features.mean(0).tolist(), features.var(0, correction=0).tolist()
