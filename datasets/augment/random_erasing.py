"""Random boxes, and random erasing [Zhong et al., AAAI 2020; timm's RandomErasing]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BoxDraw:
    """Distribution of random boxes: 2 % to `largest` of the area, height / width 0.3 to 3.3, first attempt that fits.

    Args:
        largest: share of the area.
        even: aspect ratios are uniform, so most boxes are tall; False = their logarithms are uniform.
        attempts: after this many attempts without a fit the image gets no box.
    """

    largest: float = 1 / 3
    even: bool = False
    attempts: int = 10


ERASURE = BoxDraw()  # timm's, which TransReID uses
LOCAL_GRAY = BoxDraw(0.4, even=True, attempts=100)  # of the authors' code [Gong et al., arXiv:2101.08783]


def draw_boxes(
    number: int, size: tuple[int, int], probability: float, generator: torch.Generator, boxes: BoxDraw = ERASURE
) -> Tensor:
    """Draw a box for each image with probability `probability`.

    Returns:
        (number, 4) int64 top, left, height, width; height 0 = no box.
    """
    draws = torch.rand(4, number, boxes.attempts, generator=generator)
    area = size[0] * size[1] * (0.02 + (boxes.largest - 0.02) * draws[0])
    aspect = 0.3 + (1 / 0.3 - 0.3) * draws[1] if boxes.even else torch.exp(math.log(0.3) * (1 - 2 * draws[1]))
    height, width = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (height < size[0]) & (width < size[1])
    top = (draws[2] * (size[0] - height + 1)).long()
    left = (draws[3] * (size[1] - width + 1)).long()
    attempts = torch.stack([top, left, height, width], -1)  # (number, attempts, 4)
    chosen = attempts[torch.arange(number), fits.int().argmax(1)]
    erased = fits.any(1) & (torch.rand(number, generator=generator) < probability)
    return chosen * erased[:, None]


def draw_erasures(number: int, size: tuple[int, int], probability: float, generator: torch.Generator) -> Tensor:
    """Draw a box and a noise seed per image, so that each image can be erased independently of the others.

    Returns:
        (number, 5) int64 top, left, height, width, seed; height 0 = no box.
    """
    boxes = draw_boxes(number, size, probability, generator)
    return torch.cat([boxes, torch.randint(2**32, (number, 1), generator=generator)], 1)


def erase(images: Tensor, erasures: Tensor, mode: str) -> None:
    """Overwrite a box of each image, in place.

    Args:
        images: (B, 3, H, W) float32, normalised.
        erasures: (B, 5) of `draw_erasures`, on the CPU.
        mode: pixel = noise per pixel; channel = noise per channel; constant = 0.
    """
    own = torch.Generator()
    for image, (top, left, height, width, seed) in zip(images, erasures.tolist(), strict=True):
        if height:
            box = image[:, top : top + height, left : left + width]
            box.copy_(_filling(mode, height, width, own.manual_seed(seed)), non_blocking=True)


def _filling(mode: str, height: int, width: int, generator: torch.Generator) -> Tensor:
    if mode == "constant":
        return torch.zeros(3, 1, 1)
    return torch.randn((3, height, width) if mode == "pixel" else (3, 1, 1), generator=generator)
