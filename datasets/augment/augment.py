"""Training augmentation: every image draws its own numbers, the pixels of a batch are changed together.

The numbers are drawn on the CPU, for the whole batch and before any pixel is touched: a seed gives the same batch on
every device, and a process that trains on a part of the batch gets that part of it.
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

Draws = dict[str, Tensor]  # what chance decided: the name of an operation -> (B, …) numbers, on the CPU


@dataclass(frozen=True)
class Augment:
    """Colour, flip, zero padding and crop, normalisation, random erasing: TransReID's, and some more, all optional.

    Args:
        flip: probability of a horizontal flip.
        padding: black border added before the random crop, in pixels.
        jitter: brightness, contrast and saturation factors are drawn from 1 ± this; in which order they and the hue change
            is drawn too, as in torchvision's ColorJitter.
        erase: probability of random erasing.
        erase_mode: pixel = noise per pixel; channel = noise per channel; constant = 0.
        hue: hues are turned by up to this share of the colour circle, 0 to 0.5.
        gray: probability that an image loses its colours.
        local_gray: probability that a box of 2 to 40 % of an image loses its colours [Gong et al., arXiv:2101.08783].
        auto: probability of one change drawn from `POLICY`, of a strength drawn too [after Müller & Hutter, ICCV 2021].
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
        """Draw all the numbers that a batch of `number` images needs; rows of them serve a part of the batch."""
        draws = {"flip": torch.rand(number, generator=generator) < self.flip}
        draws["corner"] = torch.randint(2 * self.padding + 1, (number, 2), generator=generator)
        if self.erase:
            draws["erase"] = draw_erasures(number, self.preprocess.size, self.erase, generator)
        return draws | self._draw_more(number, generator)

    def _draw_more(self, number: int, generator: torch.Generator) -> Draws:
        size, draws = self.preprocess.size, {}
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
        """Turn (B, 3, H, W) uint8 into float32 with the numbers drawn; the given pixels stay as they are."""
        for name, change in _CHANGES.items():
            if name in draws:
                images = change(images, draws[name])
        images = cut_windows(images, draws["flip"], draws["corner"], self.padding, self.preprocess)
        if "erase" in draws:
            erase(images, draws["erase"], self.erase_mode)
        return images


_CHANGES = {  # of uint8, in this order, before the crop
    "auto": apply_policy,
    "jitter": jitter_colour,
    "gray": make_grey,
    "local_gray": make_grey,
}
