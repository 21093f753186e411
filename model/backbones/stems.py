"""Patch stems: images (B, 3, H, W) -> patch tokens (B, N, D), as `embed_layer` of a timm ViT.

To add one: a subclass of `Stem` and its line in `STEMS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import UserError
from .resnet import InstanceBatchNorm

IBN_WIDTH = 64  # channels of the ics stem
Size = tuple[int, int]


class Stem(nn.Module, ABC):
    """Base class: timm's attributes of a patch embedding, `patch_size`, `grid_size`, `num_patches`.

    Args:
        img_size, patch_size, stride: (height, width) in pixels.
        embed_dim: D.
        bias: whether the last convolution has one.
        unused: timm's options for images of varying size.
    """

    def __init__(
        self,
        img_size: Size,
        patch_size: int | Size,
        stride: Size,
        in_chans: int = 3,
        embed_dim: int = 768,
        bias: bool = True,
        **unused: Any,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_size = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
        self.stride = stride
        self.grid_size = self.grid(self.img_size, self.patch_size, stride)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.body, self.proj = self.layers(in_chans, embed_dim, bias)

    def dynamic_feat_size(self, img_size: Size) -> Size:
        """Return the grid of an image; timm calls it for feature maps."""
        return self.grid(img_size, self.patch_size, self.stride)

    @staticmethod
    @abstractmethod
    def grid(img_size: Size, patch_size: Size, stride: Size) -> Size:
        """Return the number of tokens (down, across)."""

    @abstractmethod
    def layers(self, in_chans: int, embed_dim: int, bias: bool) -> tuple[nn.Module, nn.Conv2d]:
        """Return the layers before the projection, and the projection to `embed_dim`."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, D) of images (B, C, H, W), row by row."""
        check_size(images, self.img_size)
        return self.tokens(images)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, D) of images of any size that has a grid, see `dynamic_feat_size`."""
        return self.proj(self.body(images)).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, h * w, D)


def check_size(images: Tensor, img_size: Size) -> None:
    """Raise ValueError if images (B, C, H, W) have another size than the model was built for."""
    if tuple(images.shape[-2:]) != tuple(img_size):
        raise UserError(
            f"the model takes images of {tuple(img_size)} pixels (height, width), got {tuple(images.shape[-2:])}"
        )


class PatchStem(Stem):
    """One convolution; a stride smaller than the patch makes patches overlap [TransReID, section 3.1]."""

    @staticmethod
    def grid(img_size: Size, patch_size: Size, stride: Size) -> Size:
        """Return the number of whole patches (down, across).

        Raises:
            ValueError: patches larger than the image, or the stride than the patch.
        """
        if any(step > patch for step, patch in zip(stride, patch_size, strict=True)):
            raise UserError(
                f"MODEL.STRIDE_SIZE: {stride} leaves gaps between patches of {patch_size} pixels; take {patch_size} or smaller"
            )
        if any(patch > size for patch, size in zip(patch_size, img_size, strict=True)):
            raise UserError(f"INPUT.SIZE_TRAIN: {img_size} is smaller than one patch of {patch_size} pixels")
        down, across = (
            (size - patch) // step + 1 for size, patch, step in zip(img_size, patch_size, stride, strict=True)
        )
        return down, across

    def layers(self, in_chans: int, embed_dim: int, bias: bool) -> tuple[nn.Module, nn.Conv2d]:
        return nn.Identity(), nn.Conv2d(in_chans, embed_dim, self.patch_size, self.stride, bias=bias)


class ConvStem(Stem):
    """Stride-2 convolutions, each twice as wide, then a 1x1 projection [Xiao et al., NeurIPS 2021].

    It keeps pixels channels-last, the order in which convolutions are fastest on CPUs and tensor cores.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.to(memory_format=torch.channels_last)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, D) of images of any size."""
        return super().tokens(images.contiguous(memory_format=torch.channels_last))

    @staticmethod
    def grid(img_size: Size, patch_size: Size, stride: Size) -> Size:
        """Return the number of tokens (down, across).

        Raises:
            ValueError: the stride is not a power of two, the same in both directions.
        """
        step = stride[0]
        if stride[1] != step or step < 2 or step & (step - 1):
            raise UserError(
                f"MODEL.STRIDE_SIZE: a convolutional MODEL.STEM halves the image step by step, so it needs (8, 8), (16, 16) or (32, 32), got {stride}"
            )
        return math.ceil(img_size[0] / step), math.ceil(img_size[1] / step)

    def layers(self, in_chans: int, embed_dim: int, bias: bool) -> tuple[nn.Module, nn.Conv2d]:
        steps = int(math.log2(self.stride[0]))
        widths = [in_chans, *(max(embed_dim >> (steps - 1 - i), 8) for i in range(steps))]  # ..., D / 4, D / 2, D
        stages = [self.stage(a, b, first=i == 0) for i, (a, b) in enumerate(pairwise(widths))]
        return nn.Sequential(*stages), nn.Conv2d(widths[-1], embed_dim, 1, bias=bias)

    def stage(self, inputs: int, outputs: int, first: bool) -> nn.Module:
        """Return layers that halve the grid."""
        return conv_bn(inputs, outputs, stride=2, relu=True)


class ResConvStem(ConvStem):
    """ConvStem with a residual block for each halving after the first."""

    def stage(self, inputs: int, outputs: int, first: bool) -> nn.Module:
        return conv_bn(inputs, outputs, stride=2, relu=True) if first else ResidualDown(inputs, outputs)


class ResidualDown(nn.Module):
    """Two 3x3 convolutions and an averaged 1x1 shortcut; halves the grid [He et al., CVPR 2019, ResNet-D]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(inputs, outputs, stride=2, relu=True), conv_bn(outputs, outputs))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), conv_bn(inputs, outputs, kernel=1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', ceil(h / 2), ceil(w / 2))."""
        return self.relu(self.body(x) + self.shortcut(x))


class IbnStem(Stem):
    """Three convolutions with IBN-a at half the size, then a patch projection [Luo et al., 2021, arXiv:2111.12084].

    TransReID-SSL calls it ICS; the layers have the same order here.
    """

    @staticmethod
    def grid(img_size: Size, patch_size: Size, stride: Size) -> Size:
        """Return the number of whole patches (down, across).

        Raises:
            ValueError: the stride is odd, or larger than the image.
        """
        if any(step % 2 for step in stride):
            raise UserError(
                f"MODEL.STRIDE_SIZE: MODEL.STEM ics halves the image first, so it needs even steps, got {stride}"
            )
        if any(step > size for step, size in zip(stride, img_size, strict=True)):
            raise UserError(f"INPUT.SIZE_TRAIN: {img_size} is smaller than one patch of {stride} pixels")
        down, across = (math.ceil(size / 2) // (step // 2) for size, step in zip(img_size, stride, strict=True))
        return down, across

    def layers(self, in_chans: int, embed_dim: int, bias: bool) -> tuple[nn.Module, nn.Conv2d]:
        def conv(inputs: int, kernel: int, stride: int, norm: nn.Module) -> list[nn.Module]:
            layer = nn.Conv2d(inputs, IBN_WIDTH, kernel, stride, padding=kernel // 2, bias=False)
            return [layer, norm, nn.ReLU(inplace=True)]

        body = nn.Sequential(
            *conv(in_chans, 7, 2, InstanceBatchNorm(IBN_WIDTH)),
            *conv(IBN_WIDTH, 3, 1, InstanceBatchNorm(IBN_WIDTH)),
            *conv(IBN_WIDTH, 3, 1, nn.BatchNorm2d(IBN_WIDTH)),
        )
        step = (self.stride[0] // 2, self.stride[1] // 2)
        return body, nn.Conv2d(IBN_WIDTH, embed_dim, step, step, bias=bias)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = False) -> nn.Sequential:
    """Return convolution, batch norm and, if asked, ReLU; initialised for ReLU [He et al., ICCV 2015]."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


STEMS: dict[str, type[Stem]] = {"patch": PatchStem, "conv": ConvStem, "resconv": ResConvStem, "ics": IbnStem}
