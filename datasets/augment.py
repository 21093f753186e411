"""Training augmentation: every image draws its own numbers, the pixels of a batch are changed together.

The numbers are drawn on the CPU, so that a seed gives the same batch on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .batch import Preprocess

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in torchvision


@dataclass(frozen=True)
class Augment:
    """Flip, colour jitter, zero padding and crop, normalisation, random erasing: TransReID's order.

    Args:
        flip: probability of a horizontal flip.
        padding: black border added before the random crop, in pixels.
        jitter: brightness, contrast and saturation factors are drawn from 1 ± this.
        erase: probability of random erasing.
        erase_mode: pixel = noise per pixel; channel = noise per channel; constant = 0.
    """

    preprocess: Preprocess
    flip: float = 0.5
    padding: int = 10
    jitter: float = 0.0
    erase: float = 0.5
    erase_mode: str = "pixel"

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Turn (B, 3, H, W) uint8 into an augmented, normalised float32 batch on the same device."""
        if self.flip:
            images = random_flip(images, self.flip, generator)
        if self.jitter:
            images = random_colour(images, self.jitter, generator)
        if self.padding:
            images = random_crop(images, self.padding, generator)
        images = self.preprocess.normalise(images)
        if self.erase:
            random_erase(images, self.erase, self.erase_mode, generator)
        return images


def random_flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirror each image with the given probability; (B, 3, H, W) in and out."""
    number = len(images)
    flipped = torch.rand(number, generator=generator) < probability
    chosen = torch.arange(number) + number * flipped  # of all images, then all mirror images: fast for uint8
    return torch.cat([images, images.flip(-1)]).index_select(0, chosen.to(images.device))


def random_colour(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Scale brightness, contrast and saturation of each image by factors from 1 ± `strength`, in this order.

    The three are linear in a pixel's colour, so they are one 3 x 3 matrix and one constant per image.

    Args:
        images: (B, 3, H, W) uint8.
    Returns:
        (B, 3, H, W) uint8.
    """
    brightness, contrast, saturation = 1 + strength * (2 * torch.rand(3, len(images), 1, 1, generator=generator) - 1)
    grey = torch.tensor(_GREY).expand(3, 3)  # each row turns a colour into its luma
    matrix = contrast * brightness * (saturation * torch.eye(3) + (1 - saturation) * grey)  # (B, 3, 3)
    constant = (1 - contrast) * brightness  # (B, 1, 1), of the image's mean luma
    pixels = images.flatten(2).float()  # (B, 3, H * W)
    mean = grey.to(images.device) @ pixels.mean(2, keepdim=True)  # (B, 3, 1)
    changed = torch.baddbmm(constant.to(images.device) * mean, matrix.to(images.device), pixels)
    return changed.round_().clamp_(0, 255).to(torch.uint8).view_as(images)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `padding` pixels in either direction; black comes in. (B, 3, H, W) in and out."""
    height, width = images.shape[-2:]
    corners = torch.randint(0, 2 * padding + 1, (len(images), 2), generator=generator).tolist()
    padded = F.pad(images, [padding] * 4)
    windows = [
        image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, corners, strict=True)
    ]
    return torch.stack(windows)


def random_erase(images: Tensor, probability: float, mode: str, generator: torch.Generator) -> None:
    """Overwrite a random box of each image, in place [Zhong et al., AAAI 2020; timm's RandomErasing].

    Args:
        images: (B, 3, H, W) float32, normalised.
    """
    boxes = draw_boxes(len(images), (images.shape[-2], images.shape[-1]), probability, generator)
    for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True):
        if height:
            image[:, top : top + height, left : left + width] = _filling(mode, height, width, generator)


def _filling(mode: str, height: int, width: int, generator: torch.Generator) -> Tensor:
    if mode == "constant":
        return torch.zeros(3, 1, 1)
    return torch.randn((3, height, width) if mode == "pixel" else (3, 1, 1), generator=generator)


def draw_boxes(number: int, size: tuple[int, int], probability: float, generator: torch.Generator) -> Tensor:
    """Draw boxes of 2 to 33 % of the area and an aspect ratio of 0.3 to 3.3, the first of 10 attempts that fits.

    Returns:
        (number, 4) int64 top, left, height, width; height 0 = no box.
    """
    draws = torch.rand(4, number, 10, generator=generator)
    area = size[0] * size[1] * (0.02 + (1 / 3 - 0.02) * draws[0])
    aspect = torch.exp(math.log(0.3) * (1 - 2 * draws[1]))
    height, width = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (height < size[0]) & (width < size[1])
    top = (draws[2] * (size[0] - height + 1)).long()
    left = (draws[3] * (size[1] - width + 1)).long()
    boxes = torch.stack([top, left, height, width], -1)  # (number, 10, 4)
    chosen = boxes[torch.arange(number), fits.int().argmax(1)]
    erased = fits.any(1) & (torch.rand(number, generator=generator) < probability)
    return chosen * erased[:, None]
