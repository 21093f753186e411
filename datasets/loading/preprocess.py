"""Preprocessing of an image (size, interpolation, normalisation), stored in every checkpoint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...common.errors import UserError

INTERPOLATIONS = ("auto", "bilinear", "bicubic", "area")


@dataclass(frozen=True)
class Preprocess:
    """Resizing and normalisation of an image.

    Args:
        size: (height, width) in pixels.
        mean, std: per RGB channel, of pixels in 0-1.
        interpolation: auto = bicubic to enlarge and area to shrink; bilinear, bicubic, area.
    Raises:
        ValueError: an unknown interpolation, a size below 1 pixel, or numbers that pixels cannot be normalised by.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "auto"

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists only
        if self.interpolation not in INTERPOLATIONS:
            accepted = ", ".join(INTERPOLATIONS)
            raise UserError(f"interpolation: unknown value {self.interpolation!r}; choose from {accepted}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise UserError(f"size: expected (height, width) of at least 1 pixel, got {self.size}")
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            values = getattr(self, name)
            if len(values) != 3 or not all(least < value < math.inf for value in values):
                wanted = "numbers above 0" if least == 0 else "numbers"
                raise UserError(f"{name}: expected three {wanted}, one per RGB channel, got {values}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Return the preprocessing that `to_dict` described."""
        return cls(**values)

    def normalise(self, images: Tensor) -> Tensor:
        """Turn (B, 3, H, W) pixels in 0-255 into normalised float32."""
        scale, shift = (values.to(images.device).view(3, 1, 1) for values in self.scale_and_shift())
        return images.to(torch.float32, copy=True).mul_(scale).sub_(shift)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift, each (3,) float32: normalised = pixel (0-255) * scale - shift."""
        scale = torch.tensor([1 / (255 * std) for std in self.std])
        return scale, torch.tensor([mean / std for mean, std in zip(self.mean, self.std, strict=True)])
