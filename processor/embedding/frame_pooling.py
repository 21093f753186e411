"""Embeddings of frames -> embeddings of tracklets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model import pool_frames
from ..device import autocast
from ..thread_shares import embed_in_shares
from .embed_settings import EmbedSettings, views_of


def embed_frames(
    model: nn.Module,
    images: Tensor,
    camids: Tensor,
    viewids: Tensor,
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return embeddings (B, V, D) and scores (B, V) of frames, float32 on the CPU; V = 2: of the frame and of its mirror image.

    The embeddings have any length. Models of other runtimes weigh all frames the same: their scores are 0. Arguments as for
    `embed_images`.
    """
    work = partial(_embed_share, model, settings, device, precision)
    embeddings, scores = embed_in_shares(model, work, images, camids, viewids)
    return embeddings.cpu(), scores.cpu()


def _embed_share(
    model: nn.Module,
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype,
    images: Tensor,
    camids: Tensor,
    viewids: Tensor,
) -> tuple[Tensor, Tensor]:
    embeddings, scores = [], []
    for view in views_of(model, images, settings):
        with autocast(device, precision):
            if hasattr(model, "embed_frames"):
                found, score = model.embed_frames(view, camids, viewids, settings.neck, settings.global_only)  # type: ignore[operator]
            else:
                found = model.embed(view, camids, viewids, neck=settings.neck, global_only=settings.global_only)  # type: ignore[operator]
                score = found.new_zeros(len(found))
        embeddings.append(found.float())
        scores.append(score.float())
    return torch.stack(embeddings, 1), torch.stack(scores, 1)


class FramePooling:
    """Embeddings of consecutive frames, batch by batch -> embeddings of tracklets.

    The embedding of a tracklet is the mean of its frames' embeddings, weighted by their scores, and then scaled to unit length; with
    mirror images it is the mean direction of theirs and this.

    Args:
        counts: frames of each tracklet.
        normalize: scale to unit length.
    """

    def __init__(self, counts: Sequence[int], normalize: bool) -> None:
        self._counts, self._normalize = iter(counts), normalize
        self._waiting: list[tuple[Tensor, Tensor]] = []  # frames of a tracklet that continues in the next batch
        self._missing = 0  # of its frames

    def __call__(self, frames: Tensor, scores: Tensor) -> Tensor:
        """Return the embeddings (n, D) of the tracklets that end in these frames (B, V, D) with scores (B, V)."""
        done = [frames.new_empty(0, frames.shape[-1])]
        start = 0
        while start < len(frames):
            self._missing = self._missing or next(self._counts)
            stop = min(start + self._missing, len(frames))
            self._waiting.append((frames[start:stop], scores[start:stop]))
            self._missing -= stop - start
            start = stop
            if not self._missing:
                done.append(self._pool(*map(torch.cat, zip(*self._waiting, strict=True))))
                self._waiting = []
        return torch.cat(done)

    def _pool(self, frames: Tensor, scores: Tensor) -> Tensor:
        """Return the embedding (1, D) of the frames (T, V, D) of a tracklet."""
        views = pool_frames(frames.transpose(0, 1), scores.T)  # (V, D)
        pooled = (F.normalize(views, dim=1) if self._normalize else views).mean(0, keepdim=True)
        return F.normalize(pooled, dim=1) if self._normalize else pooled
