"""OSNet, a light convolutional network for re-ID that trains from scratch [Zhou et al., ICCV 2019, arXiv:1905.00953]."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

WIDTHS = (64, 256, 384, 512)  # channels after the stem and after each stage, at width 1
NUM_FEATURES = 512  # width of the embedding, for every width multiplier
REDUCTIONS = (8, 16, 16)  # stride in pixels after each stage
STREAMS = 4  # scales of a block: receptive fields of 3x3 to 9x9


class OSNet(nn.Module):
    """Images (B, 3, H, W) -> (B, 512), or class scores if `num_classes` is not 0.

    Args:
        width: multiplier of all channels: 1.0, 0.75, 0.5 and 0.25 are published.
        num_classes: classes of a classifier on the embedding; 0 = none.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 0) -> None:
        super().__init__()
        channels = [int(width * count) for count in WIDTHS]
        self.num_features = NUM_FEATURES
        self.feature_info = [
            {"num_chs": count, "reduction": step, "module": f"stages.{i}"}
            for i, (count, step) in enumerate(zip(channels[1:], REDUCTIONS))
        ]
        self.stem = nn.Sequential(_conv_bn(3, channels[0], 7, stride=2), nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.Sequential(
            *(_stage(a, b, halve=i < 2) for i, (a, b) in enumerate(pairwise(channels)))  # the last one keeps the grid
        )
        self.last = _conv_bn(channels[-1], channels[-1], 1)
        self.embedding = nn.Sequential(
            nn.Linear(channels[-1], NUM_FEATURES), nn.BatchNorm1d(NUM_FEATURES), nn.ReLU(inplace=True)
        )
        self.reset_classifier(num_classes)
        self.apply(_initialise)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier on the embedding; 0 = none."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the classifier; an identity if there is none."""
        return self.classifier

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns of layer groups: the stem, then each block; later layers belong to the last group."""
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return {"stem": r"^stem", "blocks": [(blocks, None), (r"^(?:last|embedding|classifier)", (99999,))]}

    def forward_intermediates(
        self, x: Tensor, indices: int | list[int] | None = None, intermediates_only: bool = False
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last feature map and those (B, C, h, w) after the given stages, as timm's models do.

        Args:
            x: images (B, 3, H, W).
            indices: stages from 0; a number = the last ones; None = all.
            intermediates_only: return only the maps after the given stages.
        """
        stages = range(len(self.stages))
        wanted = stages[-indices:] if isinstance(indices, int) else [stages[i] for i in indices or stages]
        x, maps = self.stem(x), []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            maps += [x] if index in wanted else []
        return maps if intermediates_only else (self.last(x), maps)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, ceil(H / 16), ceil(W / 16)), C = 512 times the width."""
        return self.last(self.stages(self.stem(images)))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the embedding (B, 512) of a feature map, or the class scores."""
        embedding = self.embedding(features.mean((2, 3)))
        return embedding if pre_logits else self.classifier(embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 512), or class scores (B, C)."""
        return self.forward_head(self.forward_features(images))


class OmniBlock(nn.Module):
    """Residual bottleneck with four streams of growing receptive field; one shared gate weights their channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.reduce = _conv_bn(inputs, middle, 1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(_light_conv(middle) for _ in range(depth))) for depth in range(1, STREAMS + 1)
        )
        self.gate = ChannelGate(middle)
        self.expand = _conv_bn(middle, outputs, 1, relu=False)
        self.shortcut = _conv_bn(inputs, outputs, 1, relu=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h, w)."""
        reduced = self.reduce(x)
        scales = [self.gate(stream(reduced)) for stream in self.streams]
        return torch.relu(self.expand(sum(scales[1:], scales[0])) + self.shortcut(x))


class ChannelGate(nn.Module):
    """Weights each channel by a number in 0-1, computed by a small network from the channel means [section 3.2]."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return x * self.body(x.mean((2, 3), keepdim=True))


def _stage(inputs: int, outputs: int, halve: bool) -> nn.Sequential:
    blocks: list[nn.Module] = [OmniBlock(inputs, outputs), OmniBlock(outputs, outputs)]
    down = [nn.Sequential(_conv_bn(outputs, outputs, 1), nn.AvgPool2d(2))] if halve else []
    return nn.Sequential(*blocks, *down)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _light_conv(channels: int) -> nn.Sequential:
    """Pointwise 1x1, then depthwise 3x3 convolution [section 3.1]."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
