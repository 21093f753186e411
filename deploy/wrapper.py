"""The exported network: input conversion, side information of one camera or a table of them, and the embedding."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets import Preprocess
from ..model import ReidModel, set_fused_attention
from ..model.parts.sie import SideInformation
from ..processor.embedding.extract import EmbedSettings
from .input_names import conversion


class ExportedNetwork(nn.Module):
    """Images (+ cameras) -> the same embeddings as `Embedder`, from a copy of its model.

    Args:
        kind: of the input images, a key of `INPUTS`.
        camera: row of the side information for all images, None = the fallback row.
        camera_input: take the row of each image as a second input instead.
        half: the backbone computes in float16; input, neck and output stay float32.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        model: ReidModel,
        preprocess: Preprocess,
        settings: EmbedSettings,
        kind: str,
        camera: int | None = None,
        camera_input: bool = False,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.settings = settings
        set_fused_attention(self.model, fused=True)
        if isinstance(sie := self.model.backbone.sie, SideInformation):
            rows = rows_of(sie)
            backbone: Any = self.model.backbone
            backbone.sie = CameraRows(rows) if camera_input else FixedRow(rows[-1 if camera is None else camera])
        self.dtype = torch.float16 if half else torch.float32
        self.model.backbone.to(self.dtype)
        converted = conversion(kind, preprocess)
        self.register_buffer("scale", converted[0] if converted else None)
        self.register_buffer("shift", converted[1] if converted else None)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """Return embeddings (B, D) float32 of images (B, 3, H, W) and, if the model takes them, cameras (B,) int64."""
        if self.scale is not None and self.shift is not None:
            images = images.float() * self.scale + self.shift
        images = images.to(self.dtype)
        if not self.settings.flip:
            return self._embed(images, cameras)
        both = torch.cat([images, images.flip(-1)])
        mirrored = self._embed(both, None if cameras is None else cameras.repeat(2))
        return self._scaled(mirrored.unflatten(0, (2, -1)).mean(0))  # (2 * B, D) -> (B, D)

    def _embed(self, images: Tensor, cameras: Tensor | None) -> Tensor:
        neck, global_only = self.settings.neck, self.settings.global_only
        return self._scaled(self.model.embed(images, cameras, neck=neck, global_only=global_only).float())

    def _scaled(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings, dim=1) if self.settings.normalize else embeddings


def rows_of(sie: SideInformation) -> Tensor:
    """Return the offset of each camera and, last, of an unknown camera, (C + 1, D); the viewpoint is unknown."""
    return (sie.coe * sie.rows()[:, -1]).detach().clone()


class FixedRow(nn.Module):
    """The same side information for all images: row (D,)."""

    row: Tensor

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.register_buffer("row", row)

    def forward(self, batch_size: int, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
        """Return the offset (1, 1, D); the arguments are not used."""
        return self.row.view(1, 1, -1)


class CameraRows(nn.Module):
    """Side information by camera: rows (C + 1, D), the last one for numbers outside 0 to C - 1."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, batch_size: int, camids: Tensor, viewids: Tensor | None) -> Tensor:
        """Return offsets (B, 1, D) for camids (B,)."""
        count = len(self.rows) - 1
        return self.rows[torch.where((camids >= 0) & (camids < count), camids, count)].unsqueeze(1)
