"""Side-information embedding (SIE): a learned offset per camera and viewpoint [TransReID, section 3.4]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model_spec import ModelSpec


class SideInformation(nn.Module):
    """Camera and view -> offset of all tokens of the image.

    The table has a row per camera, per view, or per pair of both (row = camera * num_views + view). A missing camera or view, or
    one outside the table, is unknown: the offset is the mean of the trained rows of the known one. If both are unknown and
    `fallback` is "unknown", a separate row is used; it is trained on the share `dropout` of the training images, with camera and
    view hidden.

    Args:
        num_cameras, num_views: rows of the table; 0 = not used.
        dim: D.
        coe: weight of the offset.
    """

    def __init__(
        self, num_cameras: int, num_views: int, dim: int, coe: float, fallback: str = "mean", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_cameras, self.num_views = num_cameras, num_views
        self.coe, self.dropout = coe, dropout
        self.table = nn.Parameter(torch.empty(max(num_cameras, 1) * max(num_views, 1), dim))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.unknown = nn.Parameter(torch.zeros(dim)) if fallback == "unknown" else None

    def forward(self, batch_size: int, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
        """Return offsets (B, 1, D) for camids (B,) and viewids (B,); None or -1 = unknown."""
        cameras = self._known(camids, self.num_cameras, batch_size)
        views = self._known(viewids, self.num_views, batch_size)
        if self.training and self.dropout > 0:
            hidden = torch.rand(batch_size, device=self.table.device) < self.dropout
            cameras = cameras.masked_fill(hidden, self.num_cameras or 1)
            views = views.masked_fill(hidden, self.num_views or 1)
        return self.coe * self.rows()[cameras, views].unsqueeze(1)

    def rows(self) -> Tensor:
        """Return the table (C + 1, V + 1, D); the last row and column are for unknown."""
        grid = self.table.view(max(self.num_cameras, 1), max(self.num_views, 1), -1)
        grid = torch.cat([grid, grid.mean(0, keepdim=True)], 0)
        grid = torch.cat([grid, grid.mean(1, keepdim=True)], 1)
        if self.unknown is None:
            return grid
        corner = torch.zeros(grid.shape[:2], dtype=torch.bool, device=grid.device)
        corner[-1, -1] = True
        return torch.where(corner.unsqueeze(-1), self.unknown, grid)

    def _known(self, ids: Tensor | None, count: int, batch_size: int) -> Tensor:
        """Return ids (B,) in 0..count, `count` (1 if the axis is not used) means unknown."""
        if ids is None or count == 0:
            return torch.full((batch_size,), max(count, 1), device=self.table.device)
        return torch.where((ids >= 0) & (ids < count), ids, count)


def build_side_information(spec: ModelSpec, dim: int) -> SideInformation:
    """Return the embedding of the cameras and views of a model for features of width `dim`."""
    num_cameras = len(spec.cameras) if spec.sie_camera else 0
    num_views = len(spec.views) if spec.sie_view else 0
    return SideInformation(num_cameras, num_views, dim, spec.sie_coe, spec.sie_fallback, spec.sie_dropout)
