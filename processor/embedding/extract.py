"""Embed the images of a loader, in the order of the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist
from tqdm import tqdm
from yacs.config import CfgNode

from ..device import autocast
from ..distributed.process_group import Ranks


@dataclass(frozen=True)
class EmbedSettings:
    """Definition of the test embedding; stored in the checkpoint.

    Args:
        neck: "before" or "after" the BN-neck.
        normalize: scale embeddings to unit length.
        flip: average the (normalised) embeddings of the image and its mirror image.
        global_only: with JPM, use only the global branch.
    """

    neck: str = "before"
    normalize: bool = True
    flip: bool = False
    global_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return asdict(self)


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
    embed = embed_images if pool is None else embed_frames
    was_training = model.training
    model.eval()
    try:
        blocks = []
        for batch in tqdm(loader, desc=title, unit="batch", disable=None if shows else True, leave=False):
            found = embed(model, batch.images, batch.camids, batch.viewids, settings, device, precision)
            blocks.append(found if pool is None else pool(found))
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
    mirrors = settings.flip and not getattr(model, "mirrors_inside", False)
    views = [images, images.flip(-1)] if mirrors else [images]
    total = torch.zeros((), device=device)
    for view in views:
        with autocast(device, precision):
            embedding = model.embed(view, camids, viewids, neck=settings.neck, global_only=settings.global_only)  # type: ignore[operator]
        embedding = embedding.float()
        total = total + (F.normalize(embedding, dim=1) if settings.normalize else embedding)
    total = total / len(views)
    return (F.normalize(total, dim=1) if settings.normalize else total).cpu()


def embed_frames(
    model: nn.Module,
    images: Tensor,
    camids: Tensor,
    viewids: Tensor,
    settings: EmbedSettings,
    device: torch.device,
    precision: torch.dtype,
) -> Tensor:
    """Return the (B, V, D) float32 embeddings of frames, on the CPU, of any length: of the frame, and with `flip` of its mirror image.

    Arguments as for `embed_images`.
    """
    mirrors = settings.flip and not getattr(model, "mirrors_inside", False)
    found = []
    for view in [images, images.flip(-1)] if mirrors else [images]:
        with autocast(device, precision):
            embedding = model.embed(view, camids, viewids, neck=settings.neck, global_only=settings.global_only)  # type: ignore[operator]
        found.append(embedding.float().cpu())
    return torch.stack(found, 1)


class FramePooling:
    """Embeddings of consecutive frames, batch by batch -> embeddings of tracklets.

    The embedding of a tracklet is the mean of its frames' embeddings, then scaled to unit length. It is the mean direction of both,
    if there are mirror images.

    Args:
        counts: frames of each tracklet.
        normalize: scale to unit length.
    """

    def __init__(self, counts: Sequence[int], normalize: bool) -> None:
        self._counts, self._normalize = iter(counts), normalize
        self._waiting: list[Tensor] = []  # frames of a tracklet that continues in the next batch
        self._missing = 0  # of its frames

    def __call__(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, D) of the tracklets that end in these frames (B, V, D)."""
        done = [frames.new_empty(0, frames.shape[-1])]
        while len(frames):
            self._missing = self._missing or next(self._counts)
            part, frames = frames[: self._missing], frames[self._missing :]
            self._waiting.append(part)
            self._missing -= len(part)
            if not self._missing:
                done.append(self._pool(torch.cat(self._waiting)))
                self._waiting = []
        return torch.cat(done)

    def _pool(self, frames: Tensor) -> Tensor:
        """Return the embedding (1, D) of the frames (T, V, D) of a tracklet."""
        views = frames.mean(0)  # (V, D)
        pooled = (F.normalize(views, dim=1) if self._normalize else views).mean(0, keepdim=True)
        return F.normalize(pooled, dim=1) if self._normalize else pooled
