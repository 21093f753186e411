"""Training augmentation: random draws per image, applied to the batch.

All random numbers of a batch are drawn on the CPU before any pixel changes: a seed gives the same batch on every device, and a rank
that trains on a slice of the batch gets the same slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..loading.preprocess import Preprocess
from .color_jitter import draw_jitter, jitter_colour, make_grey
from .crop import cut_windows
from .random_erasing import LOCAL_GRAY, draw_boxes, draw_erasures, erase
from .trivial_augment import apply_policy, draw_policy

Draws = dict[str, Tensor]  # operation -> its random numbers (B, …), on the CPU


@dataclass(frozen=True)
class Augment:
    """TransReID's augmentation (flip, zero padding and crop, normalisation, random erasing) and optional colour changes.

    Args:
        flip: probability of a horizontal flip.
        padding: black border added before the random crop, in pixels.
        jitter: brightness, contrast and saturation factors are drawn from 1 ± this; the order of these and the hue change is
            random, as in torchvision's ColorJitter.
        erase: probability of random erasing.
        erase_mode: pixel = noise per pixel; channel = noise per channel; constant = 0.
        hue: largest rotation of the hue as a share of the colour circle, 0 to 0.5.
        gray: probability of a grey image.
        local_gray: probability of a grey box of 2 to 40 % of the image [Gong et al., arXiv:2101.08783].
        auto: probability of one random change of `POLICY` with a random strength [after Müller & Hutter, ICCV 2021].
    """

    preprocess: Preprocess
    flip: float = 0.5
    padding: int = 10
    jitter: float = 0.0
    erase: float = 0.5
    erase_mode: str = "pixel"
    hue: float = 0.0
    gray: float = 0.0
    local_gray: float = 0.0
    auto: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Turn (B, 3, H, W) uint8 into an augmented, normalised float32 batch on the same device."""
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, number: int, generator: torch.Generator) -> Draws:
        """Draw all random numbers of a batch of `number` images; slice the rows for a part of the batch."""
        size = self.preprocess.size
        draws = {"flip": torch.rand(number, generator=generator) < self.flip}
        draws["corner"] = torch.randint(2 * self.padding + 1, (number, 2), generator=generator)
        if self.erase:
            draws["erase"] = draw_erasures(number, size, self.erase, generator)
        if self.jitter or self.hue:
            draws["jitter"] = draw_jitter(number, self.jitter, self.hue, generator)
        if self.gray:
            whole = torch.tensor([0, 0, *size])
            draws["gray"] = whole * (torch.rand(number, 1, generator=generator) < self.gray)
        if self.local_gray:
            draws["local_gray"] = draw_boxes(number, size, self.local_gray, generator, LOCAL_GRAY)
        if self.auto:
            draws["auto"] = draw_policy(number, self.auto, generator)
        return draws

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Turn (B, 3, H, W) uint8 into float32 with the given draws; the input is not modified."""
        for name, change in _CHANGES.items():
            if name in draws:
                images = change(images, draws[name])
        images = cut_windows(images, draws["flip"], draws["corner"], self.padding, self.preprocess)
        if "erase" in draws:
            erase(images, draws["erase"], self.erase_mode)
        return images


_CHANGES = {  # applied to uint8 images in this order, before the crop
    "auto": apply_policy,
    "jitter": jitter_colour,
    "gray": make_grey,
    "local_gray": make_grey,
}
