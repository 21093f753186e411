"""ResNet-50 as re-ID uses it: stride 1 in the last stage [Luo et al., CVPRW 2019], IBN-a, generalised-mean pooling.

It is timm's ResNet-50 with these parts changed, so the names of its tensors are those of torchvision.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

IBN_STAGES = ("layer1", "layer2", "layer3")  # the last stage keeps batch norms [Pan et al., ECCV 2018]


def resnet50(ibn: bool = False, unpadded: bool = False, fc: int = 0, pool: str = "avg", **options: Any) -> nn.Module:
    """Return a ResNet-50 whose last stage keeps its grid.

    Args:
        ibn: instance norm for half of the channels after the first convolution of each block.
        unpadded: pool after the stem without padding, as fast-reid does.
        fc: width of a linear layer with batch norm and ReLU behind the pooling, as torchreid's `fc512`; 0 = none.
        pool: `avg`, or `gem` with a learned exponent.
        options: of timm's ResNet.
    """
    net: Any = timm.create_model("resnet50", pretrained=False, **options)
    first = net.layer4[0]
    first.conv2.stride = first.downsample[0].stride = (1, 1)
    for stage in IBN_STAGES if ibn else ():
        for block in getattr(net, stage):
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    if unpadded:
        net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    if pool == "gem":
        net.global_pool = GeneralizedMean()
    if fc:
        net.fc = nn.Sequential(nn.Linear(net.num_features, fc), nn.BatchNorm1d(fc), nn.ReLU(inplace=True))
    return net


class InstanceBatchNorm(nn.Module):
    """Instance norm for the first half of the channels, batch norm for the rest: IBN-a [Pan et al., ECCV 2018]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return torch.cat([self.IN(x[:, : self.split]), self.BN(x[:, self.split :])], dim=1)


class GeneralizedMean(nn.Module):
    """The mean of the p-th powers, to the power 1 / p; p is learned [Radenovic et al., TPAMI 2019]."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return x.float().clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)
