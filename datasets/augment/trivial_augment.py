"""One random change per image with a random strength, after TrivialAugment (Müller & Hutter, ICCV 2021), in ranges for person crops.

Images with the same kind of change are processed together, each with its own strength: one call per kind on a GPU, where
torchvision's functionals take one strength per call. On one CPU core those are faster (20 against 33 ms for 64 crops of 256x128).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .color_jitter import scale_brightness, scale_contrast, scale_saturation

Change = Callable[[Tensor, Tensor], Tensor]  # (b, 3, H, W) uint8 and (b,) strengths in -1 to 1 -> uint8

ROTATION, SHEAR = 15.0, 0.15  # largest angle in degrees; pixels per pixel
TRANSLATION, COLOUR = 0.1, 0.5  # share of the side; factors are 1 ± this


def draw_policy(number: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw (number, 2) float32: the row of POLICY, -1 = no change, and the strength, -1 to 1."""
    chosen = torch.randint(len(POLICY), (number,), generator=generator)
    strength = 2 * torch.rand(number, generator=generator) - 1
    changed = torch.rand(number, generator=generator) < probability
    return torch.stack([torch.where(changed, chosen, -1).float(), strength], 1)


def apply_policy(images: Tensor, drawn: Tensor) -> Tensor:
    """Change (B, 3, H, W) uint8 by the draws (B, 2) of `draw_policy`; the input is not modified."""
    for row, change in enumerate(POLICY.values()):
        where = (drawn[:, 0] == row).nonzero().flatten()
        if len(where):
            there = where.to(images.device)
            changed = change(images.index_select(0, there), drawn[where, 1].to(images.device))
            images = images.index_copy(0, there, changed)
    return images


def _warp(images: Tensor, strength: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Warp each image by its 2 x 3 matrix from new to old pixel positions, relative to the centre; black outside.

    Args:
        rows: of the matrices; an entry is a number, the same for all images, or (b,).
    """
    ones = torch.ones_like(strength)
    matrices = torch.stack([torch.stack([ones * entry for entry in row], -1) for row in rows], 1)  # (b, 2, 3)
    height, width = images.shape[-2:]
    to_unit = torch.tensor([[1, height / width, 2 / width], [width / height, 1, 2 / height]], device=images.device)
    grid = F.affine_grid(matrices * to_unit, list(images.shape), align_corners=False)
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.round_().clamp_(0, 255).to(torch.uint8)


def _rotate(images: Tensor, strength: Tensor) -> Tensor:
    angle = math.radians(ROTATION) * strength
    return _warp(images, strength, [[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0]])


def _scaled(scale: Change) -> Change:
    """Return a change with factors in 1 ± COLOUR."""

    def change(images: Tensor, strength: Tensor) -> Tensor:
        return scale(images.float(), (1 + COLOUR * strength).view(-1, 1, 1, 1)).round_().to(torch.uint8)

    return change


def _sharpen(images: Tensor, strength: Tensor) -> Tensor:
    """Sharpen (strength above 0) or blur (below 0), as Pillow's Sharpness; the border pixels stay."""
    pixels = images.float()
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    blurred = pixels.clone()
    blurred[..., 1:-1, 1:-1] = F.conv2d(pixels, kernel / 13, groups=3)
    changed = torch.lerp(blurred, pixels, (1 + strength).view(-1, 1, 1, 1))
    return changed.round_().clamp_(0, 255).to(torch.uint8)


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep the upper 4 to 7 bits."""
    dropped = 1 + (4 * strength.abs()).long().clamp(max=3)
    return images & (256 - 2**dropped).to(torch.uint8).view(-1, 1, 1, 1)


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert values above a threshold of 128 to 255."""
    threshold = (255 - 127 * strength.abs()).view(-1, 1, 1, 1)
    return torch.where(images > threshold, 255 - images, images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0-255; a constant channel stays."""
    low, high = (reduce(images.flatten(2), -1)[..., None, None].float() for reduce in (torch.amin, torch.amax))
    stretched = (images - low) * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, stretched.round().to(torch.uint8), images)


POLICY: dict[str, Change] = {
    "rotate": _rotate,
    "shear x": lambda images, strength: _warp(images, strength, [[1, SHEAR * strength, 0], [0, 1, 0]]),
    "shear y": lambda images, strength: _warp(images, strength, [[1, 0, 0], [SHEAR * strength, 1, 0]]),
    "translate x": lambda images, strength: _warp(
        images, strength, [[1, 0, TRANSLATION * images.shape[-1] * strength], [0, 1, 0]]
    ),
    "translate y": lambda images, strength: _warp(
        images, strength, [[1, 0, 0], [0, 1, TRANSLATION * images.shape[-2] * strength]]
    ),
    "brightness": _scaled(scale_brightness),
    "contrast": _scaled(scale_contrast),
    "saturation": _scaled(scale_saturation),
    "sharpness": _sharpen,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
}
