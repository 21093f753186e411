"""Multi-crop augmentation for self-supervised training: large and small crops of each image, drawn per image, applied per batch.

The views are those of DINO (Caron et al., ICCV 2021) in the shape of a body (Luo et al., arXiv:2111.12084). As in `augment.py`, all
random numbers of a batch are drawn on the CPU before any pixel changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..loading.preprocess import Preprocess
from .augment import Augment, Draws
from .blur import draw_sigmas, gaussian_blur, solarize
from .color_jitter import UNCHANGED, draw_jitter, jitter_colour, make_grey
from .crop import normalise
from .random_erasing import draw_erasures, erase

NUM_GLOBAL = 2
ASPECT = math.log(4 / 3)  # log of the largest change of the aspect ratio, as in torchvision's RandomResizedCrop
BLUR = (1.0, 0.1, 0.5)  # probabilities for the first and the second large crop, and for small crops [DINO]
ATTEMPTS = 10


class Unchanged(Augment):
    """Leaves the pixels as they are, uint8: the views are made of the batch."""

    def draw(self, number: int, generator: torch.Generator) -> Draws:
        """Draw nothing."""
        return {}

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Return (B, 3, H, W) uint8 itself."""
        return images


@dataclass(frozen=True)
class ViewColours:
    """Changes of a view's colours.

    Args:
        jitter, hue: strengths, as in `Augment`; `jitter_prob` of the views have them.
        gray: probability of a grey view.
        blur: blur views with DINO's probabilities.
        solarize: probability that the values above 128 of the second large crop are inverted.
        erase, erase_mode: random erasing of views, as in `Augment`.
    """

    jitter: float = 0.4
    hue: float = 0.1
    jitter_prob: float = 0.8
    gray: float = 0.2
    blur: bool = True
    solarize: float = 0.2
    erase: float = 0.0
    erase_mode: str = "pixel"


@dataclass(frozen=True)
class MultiCrop:
    """Two large crops and some small ones of each image.

    The crops have the image's shape: their aspect ratio is that of the image times 3/4 to 4/3.

    Args:
        preprocess: size of the large crops, and normalisation.
        local_size: (height, width) of the small crops.
        num_local: small crops per image.
        global_scale, local_scale: share of the image's area, least and most.
        flip: probability of a horizontal flip.
    """

    preprocess: Preprocess
    local_size: tuple[int, int]
    num_local: int = 8
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    flip: float = 0.5
    colours: ViewColours = field(default_factory=ViewColours)

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Turn (B, 3, H, W) uint8 into large crops (2 * B, 3, h, w) and small ones (n * B, 3, h', w'), float32, crop by crop."""
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, number: int, generator: torch.Generator) -> list[Draws]:
        """Draw the random numbers of each crop of `number` images."""
        large = [self._draw_view(number, place, generator) for place in range(NUM_GLOBAL)]
        return [*large, *(self._draw_view(number, NUM_GLOBAL, generator) for _ in range(self.num_local))]

    def _draw_view(self, number: int, kind: int, generator: torch.Generator) -> Draws:
        """Draw a crop: kind 0 and 1 are the large ones, 2 is a small one."""
        is_local, colours = kind == NUM_GLOBAL, self.colours
        size = self.local_size if is_local else self.preprocess.size
        draws = {"window": draw_windows(number, self.local_scale if is_local else self.global_scale, generator)}
        draws["flip"] = torch.rand(number, generator=generator) < self.flip
        if colours.jitter or colours.hue:
            draws["jitter"] = draw_jitter(number, colours.jitter, colours.hue, generator)
            still = torch.rand(number, generator=generator) >= colours.jitter_prob
            draws["jitter"][still, 0] = torch.tensor(UNCHANGED)
        if colours.gray:
            chosen = torch.rand(number, 1, generator=generator) < colours.gray
            draws["gray"] = torch.tensor([0, 0, *size]) * chosen
        if colours.blur:
            draws["blur"] = draw_sigmas(number, size[0], BLUR[kind], generator)
        if colours.solarize and kind == 1:
            draws["solarize"] = torch.rand(number, generator=generator) < colours.solarize
        if colours.erase:
            draws["erase"] = draw_erasures(number, size, colours.erase, generator)
        return draws

    def apply(self, images: Tensor, draws: list[Draws]) -> tuple[Tensor, Tensor]:
        """Make the views with the given draws; the input is not modified."""
        pixels = images.float()
        large = [self._view(pixels, one, self.preprocess.size) for one in draws[:NUM_GLOBAL]]
        small = [self._view(pixels, one, self.local_size) for one in draws[NUM_GLOBAL:]]
        none = images.new_empty((0, 3, *self.local_size), dtype=torch.float32)
        return torch.cat(large), torch.cat(small) if small else none

    def _view(self, pixels: Tensor, draws: Draws, size: tuple[int, int]) -> Tensor:
        view = cut_and_resize(pixels, draws["window"], draws["flip"], size)
        for name, change in _CHANGES.items():
            if name in draws:
                view = change(view, draws[name])
        view = normalise(view, self.preprocess)
        if "erase" in draws:
            erase(view, draws["erase"], self.colours.erase_mode)
        return view


def draw_windows(number: int, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Draw a window for each image.

    Args:
        scale: share of the image's area, least and most.
    Returns:
        (number, 4) float32 top, left, height, width as shares of the image's height and width.
    """
    draws = torch.rand(4, number, ATTEMPTS, generator=generator)
    area = scale[0] + (scale[1] - scale[0]) * draws[0]
    ratio = torch.exp(ASPECT * (2 * draws[1] - 1))  # of the aspect, width over height, to the image's
    height, width = (area / ratio).sqrt(), (area * ratio).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.int().argmax(1, keepdim=True)
    height, width = (values.gather(1, first)[:, 0].clamp(max=1) for values in (height, width))
    top, left = (1 - height) * draws[2, :, 0], (1 - width) * draws[3, :, 0]
    return torch.stack([top, left, height, width], 1)


def cut_and_resize(pixels: Tensor, windows: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a window out of each image and resize it (bilinear).

    Args:
        pixels: (B, 3, H, W) float32 in 0-255.
        windows: (B, 4) of `draw_windows`, on the CPU.
        flipped: (B,) bool, on the CPU.
    Returns:
        (B, 3, *size) uint8.
    """
    top, left, height, width = windows.unbind(1)
    across = torch.where(flipped, -width, width)
    zero = torch.zeros_like(top)
    matrices = torch.stack(  # from -1…1 in the view to -1…1 in the image
        [
            torch.stack([across, zero, 2 * left + width - 1], 1),
            torch.stack([zero, height, 2 * top + height - 1], 1),
        ],
        1,
    ).to(pixels.device)
    grid = F.affine_grid(matrices, [len(pixels), 3, *size], align_corners=False)
    cut = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.round_().clamp_(0, 255).to(torch.uint8)


_CHANGES = {"jitter": jitter_colour, "gray": make_grey, "blur": gaussian_blur, "solarize": solarize}  # in this order
