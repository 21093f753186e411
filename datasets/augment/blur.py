"""Gaussian blur and solarisation, with separate draws per image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST, MOST = 0.1, 2.0  # standard deviation in pixels of an image of 256 pixels height [DINO has 224 x 224]
REFERENCE_HEIGHT = 256
RADII = 3.0  # of the kernel, in standard deviations


def draw_sigmas(number: int, height: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw the blur of each image of `height` pixels.

    Returns:
        (number,) float32 standard deviations in pixels; 0 = unchanged.
    """
    sigmas = LEAST + (MOST - LEAST) * torch.rand(number, generator=generator)
    chosen = torch.rand(number, generator=generator) < probability
    return sigmas * chosen * (height / REFERENCE_HEIGHT)


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each image with its Gaussian; the border pixels are repeated outside.

    Args:
        images: (B, 3, H, W) uint8; unchanged.
        sigmas: (B,) of `draw_sigmas`, on the CPU.
    Returns:
        (B, 3, H, W) uint8.
    """
    chosen = sigmas.nonzero().flatten()
    if not len(chosen):
        return images
    radius = max(1, math.ceil(RADII * float(sigmas.max())))
    kernels = _kernels(sigmas[chosen], radius).to(images.device)  # (b, 2 * radius + 1)
    where = chosen.to(images.device)
    planes = images.index_select(0, where).float().flatten(0, 1)[None]  # (1, b * 3, H, W)
    weights = kernels.repeat_interleave(3, 0)
    planes = F.pad(planes, (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(planes, weights[:, None, None, :], groups=len(weights))
    planes = F.conv2d(planes, weights[:, None, :, None], groups=len(weights))
    blurred = planes[0].unflatten(0, (-1, 3)).round_().clamp_(0, 255).to(torch.uint8)
    return images.index_copy(0, where, blurred)


def _kernels(sigmas: Tensor, radius: int) -> Tensor:
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / sigmas[:, None]).square())
    return weights / weights.sum(1, keepdim=True)


def solarize(images: Tensor, chosen: Tensor) -> Tensor:
    """Invert the values of 128 and above of the chosen (B,) bool of the images (B, 3, H, W) uint8; the input is unchanged."""
    inverted = torch.where(images >= 128, 255 - images, images)
    return torch.where(chosen.to(images.device)[:, None, None, None], inverted, images)
