"""Embeddings of the frames of a clip -> embedding of the clip: their mean, or weighted by a learned attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class FrameMean(nn.Module):
    """All frames weigh the same."""

    def forward(self, before: Tensor) -> Tensor:
        """Return the scores (...,) of frames (..., K, D): 0."""
        return before.new_zeros(before.shape[:-2])


class FrameAttention(nn.Module):
    """A score per frame, from its global branch; a clip weighs its frames by the softmax of their scores.

    This is the attention of Gao and Nevatia (2018, arXiv:1805.02104) without its convolution over time, so that clips may have any
    length. It starts with equal scores: the mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, before: Tensor) -> Tensor:
        """Return the scores (...,) of frames (..., K, D), embeddings before the neck."""
        with torch.autocast(before.device.type, enabled=False):
            return self.score(self.norm(before[..., 0, :])).squeeze(-1)


FRAME_POOLS: dict[str, Callable[[int], nn.Module]] = {  # MODEL.CLIP_POOL: width of an embedding -> scores of frames
    "mean": lambda width: FrameMean(),
    "attention": FrameAttention,
}


def pool_frames(frames: Tensor, scores: Tensor) -> Tensor:
    """Return the embeddings (B, ...) of clips of T frames (B, T, ...) with scores (B, T): the mean for equal scores."""
    weights = scores.softmax(1)
    return (frames * weights.reshape(*weights.shape, *[1] * (frames.ndim - 2))).sum(1)
