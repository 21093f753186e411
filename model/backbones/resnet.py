"""ResNet-50 variants of re-ID: stride 1 in the last stage [Luo et al., CVPRW 2019], IBN-a, non-local blocks, GeM pooling.

They are timm's ResNet-50 with these parts replaced; the tensor names are those of torchvision.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

IBN_STAGES = ("layer1", "layer2", "layer3")  # the last stage keeps batch norms [Pan et al., ECCV 2018]
NON_LOCAL = {
    "layer2": 2,
    "layer3": 3,
}  # number of blocks at the end of a stage that get a non-local one, as in fast-reid


def resnet50(
    ibn: bool = False, unpadded: bool = False, non_local: bool = False, fc: int = 0, pool: str = "avg", **options: Any
) -> nn.Module:
    """Return a ResNet-50 with stride 1 in the last stage.

    Args:
        ibn: instance norm for half of the channels after the first convolution of each block.
        unpadded: pool after the stem without padding, as fast-reid does.
        non_local: attention over the grid behind some blocks, as in fast-reid's SBS and AGW.
        fc: width of a linear layer with batch norm and ReLU behind the pooling, as torchreid's `fc512`; 0 = none.
        pool: `avg`, or `gem` with a learned exponent.
        options: of timm's ResNet.
    """
    net: Any = ReidResNet(Bottleneck, (3, 4, 6, 3), **options)  # type: ignore[arg-type]  # timm's annotation lacks `type[…]`
    first = net.layer4[0]
    first.conv2.stride = first.downsample[0].stride = (1, 1)
    net.feature_info[-1]["reduction"] = 16  # pixels per step of the grid
    for stage in IBN_STAGES if ibn else ():
        for block in getattr(net, stage):
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    if unpadded:
        net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for stage, count in NON_LOCAL.items() if non_local else ():
        for block in getattr(net, stage)[-count:]:
            block.non_local = NonLocal(block.conv3.out_channels)
            block.register_forward_hook(lambda block, _, output: block.non_local(output))
    if pool == "gem":
        net.global_pool = GeneralizedMean()
    if fc:
        net.global_pool = PooledFeature(net.global_pool, net.num_features, fc)
        net.num_features = fc
        net.reset_classifier(options.get("num_classes", 1000))
    return net


class ReidResNet(ResNet):
    """timm's ResNet; a new classifier leaves the pooling as it is."""

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier on the pooled feature; 0 = none."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


class PooledFeature(nn.Module):
    """Pooling, then a linear layer with batch norm and ReLU."""

    def __init__(self, pool: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = pool
        self.embedding = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, outputs)."""
        return self.embedding(self.pool(x))


class NonLocal(nn.Module):
    """Attention of each pixel to all others, weighted by products of one number per pixel [Wang et al., CVPR 2018].

    With one inner channel, as in fast-reid, the sum over the grid is shared by all pixels: linear instead of quadratic.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, 1, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.expand = nn.Sequential(nn.Conv2d(1, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        shared = (self.key(x) * self.value(x)).mean((2, 3), keepdim=True)  # (B, 1, 1, 1)
        return x + self.expand(self.query(x) * shared)


class InstanceBatchNorm(nn.Module):
    """IBN-a: instance norm for the first half of the channels, batch norm for the rest [Pan et al., ECCV 2018]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return torch.cat([self.IN(x[:, : self.split]), self.BN(x[:, self.split :])], dim=1)


class GeneralizedMean(nn.Module):
    """GeM pooling: mean of the p-th powers, to the power 1 / p, with a learned p [Radenovic et al., TPAMI 2019]."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return x.float().clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)
