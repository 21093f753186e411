"""Embed the images of a loader, in the order of the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist
from tqdm import tqdm
from yacs.config import CfgNode

from ..device import autocast
from ..distributed.process_group import Ranks
from ..thread_shares import embed_in_shares
from .embed_settings import EmbedSettings, views_of
from .frame_pooling import FramePooling, embed_frames


def build_embed_settings(cfg: CfgNode) -> EmbedSettings:
    """Build the settings of the test embedding."""
    return EmbedSettings(cfg.TEST.NECK_FEAT, cfg.TEST.FEAT_NORM, cfg.TEST.FLIP, cfg.TEST.GLOBAL_ONLY)


@torch.inference_mode()
def extract(
    model: nn.Module,
    loader: Iterable[Any],
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    title: str = "extract",
    shows: bool = True,
    counts: Sequence[int] = (),
) -> Tensor:
    """Return the (N, D) float32 embeddings of a loader's images, on the CPU, in the loader's order; (0, 0) without batches.

    The model is set to evaluation mode, and to its earlier mode afterwards.

    Args:
        title, shows: of the progress bar: its title, and whether there is one.
        counts: the loader's images are frames, so many of each tracklet: N tracklets are returned; empty = single images.
    """
    pool = FramePooling(counts, settings.normalize) if any(count != 1 for count in counts) else None
    was_training = model.training
    model.eval()
    try:
        blocks = []
        for batch in tqdm(loader, desc=title, unit="batch", disable=None if shows else True, leave=False):
            images = batch.images, batch.camids, batch.viewids
            if pool is None:
                blocks.append(embed_images(model, *images, settings, device, precision))
            else:
                blocks.append(pool(*embed_frames(model, *images, settings, device, precision)))
    finally:
        model.train(was_training)
    return torch.cat(blocks) if blocks else torch.empty(0, 0)


def join_shares(share: Tensor, count: int, ranks: Ranks) -> Tensor | None:
    """Gather the (count, D) rows on rank 0; the other ranks receive None.

    Args:
        share: this rank's rows (n, D), at the positions rank, rank + size, rank + 2 * size, …; n may be 0.
    """
    if ranks.size == 1:
        return share
    width = max(ranks.gather_objects(share.shape[1]))
    longest = torch.zeros(-(-count // ranks.size), width)  # gloo gathers tensors of equal size
    if len(share):
        longest[: len(share)] = share
    shares = [torch.empty_like(longest) for _ in range(ranks.size)] if ranks.is_first else None
    dist.gather(longest, shares)
    return torch.stack(shares, 1).flatten(0, 1)[:count] if shares else None


def embed_images(
    model: nn.Module,
    images: Tensor,
    camids: Tensor,
    viewids: Tensor,
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype,
) -> Tensor:
    """Return the (B, D) float32 embeddings of images, on the CPU; the model is in evaluation mode.

    Args:
        images: (B, 3, H, W) float32, normalised, on the model's device.
        camids, viewids: (B,) rows of the model's camera and view tables; -1 = unknown.
    """
    work = partial(_embed_share, model, settings, device, precision)
    return embed_in_shares(model, work, images, camids, viewids)[0].cpu()


def _embed_share(
    model: nn.Module,
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype,
    images: Tensor,
    camids: Tensor,
    viewids: Tensor,
) -> tuple[Tensor]:
    views = views_of(model, images, settings)
    total = torch.zeros((), device=device)
    for view in views:
        with autocast(device, precision):
            embedding = model.embed(view, camids, viewids, neck=settings.neck, global_only=settings.global_only)  # type: ignore[operator]
        embedding = embedding.float()
        total = total + (F.normalize(embedding, dim=1) if settings.normalize else embedding)
    total = total / len(views)
    return (F.normalize(total, dim=1) if settings.normalize else total,)
