"""The head of DINO: features -> one output per prototype."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHead(nn.Module):
    """Three layers, unit length, and the cosines to prototypes: DINO's last layer with weight norm and the norm kept at 1.

    The cosines are computed in float32: behind a temperature of 0.04 the rounding of 16 bits would count.

    Args:
        width: D of the features.
        hidden, bottleneck: widths of the layers.
        num_prototypes: K.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, num_prototypes: int) -> None:
        super().__init__()
        layers = [
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        ]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(num_prototypes, bottleneck))
        nn.init.normal_(self.prototypes)  # only the directions count

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (N, K) float32 of features (N, D)."""
        hidden = self.layers(features)
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(F.normalize(hidden.float(), dim=1), F.normalize(self.prototypes, dim=1))
