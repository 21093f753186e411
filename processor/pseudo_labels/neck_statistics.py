"""The running statistics of a new neck, from the training images: the first clusters are found behind it, before any step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...model import ReidModel
from ..distributed.process_group import ALONE, Ranks
from ..embedding.extract import EmbedSettings, extract, join_shares

SAMPLE = 2048  # images that are embedded for them
BEFORE = EmbedSettings(neck="before", normalize=False, flip=False, global_only=True)


def stride_of_sample(count: int) -> int:
    """Return which n-th of so many training images are embedded."""
    return max(1, count // SAMPLE)


def start_neck(
    model: ReidModel,
    images: Iterable[Any],
    count: int,
    device: torch.device,
    precision: torch.dtype,
    ranks: Ranks = ALONE,
) -> None:
    """Set mean and variance of the global branch in a batch norm that has seen no batch; others are left as they are. Collective.

    Without it, centroids of the first round would be embedded with mean 0 and variance 1, and the batches that are compared with them by
    their own statistics.

    Args:
        images: batches of this rank's share of the sample.
        count: images of the sample, of all ranks together.
    """
    neck = model.neck
    if (
        not isinstance(neck, nn.modules.batchnorm._BatchNorm)
        or not neck.track_running_stats
        or neck.num_batches_tracked
    ):
        return
    share = extract(model, images, BEFORE, device, precision, "statistics", ranks.is_first)
    features = join_shares(share, count, ranks)
    mean, variance = ranks.from_first(lambda: _statistics(features))  # type: ignore[arg-type]  # no None on rank 0
    for running, found in ((neck.running_mean, mean), (neck.running_var, variance)):
        running[: len(found)].copy_(torch.tensor(found))  # type: ignore[index]


def _statistics(features: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and variance of each feature of (N, D)."""
    return features.mean(0).tolist(), features.var(0, correction=0).tolist()
