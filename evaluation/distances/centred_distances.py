"""Products of centred embeddings: the distances are the same, and those of close embeddings keep their digits."""

from __future__ import annotations

import torch
from torch import Tensor

from ..input_checks import squared_norms

CHUNK_ELEMENTS = 2**20  # 4 MiB of float32, copied at once on a CPU: they stay in the processor's cache
DEVICE_ELEMENTS = 2**24  # 64 MiB on a GPU, where a few large products are faster
SAMPLE = 1000  # rows that the spread is estimated from


class Centred:
    """Embeddings relative to their middle.

    |q - g|^2 = |q|^2 - 2 q.g + |g|^2 subtracts large squared lengths to get a small squared distance, and float32 has seven
    digits. Relative to the middle, lengths are about as large as distances.

    Args:
        features: (M, D), finite; not copied: the middle is subtracted from a few rows at a time.
        norms: (M,) their squared lengths; None = computed here.
    """

    def __init__(self, features: Tensor, norms: Tensor | None = None) -> None:
        self.features = features
        self.middle = middle_of(features)  # (D,)
        self.is_moved = bool(self.middle.any())
        if self.is_moved or norms is None:
            norms = squared_norms(features, self.middle if self.is_moved else None)
        self.norms = norms
        rows = (DEVICE_ELEMENTS if features.is_cuda else CHUNK_ELEMENTS) // features.shape[1]
        self.chunk = features.new_empty(min(max(1, rows), len(features)) if self.is_moved else 0, features.shape[1])

    def products(self, offsets: Tensor, block: Tensor, factor: float, out: Tensor) -> Tensor:
        """Write offsets (M,) + factor * (products of the centred `block` (b, D) with all rows) into out (b, M)."""
        if not self.is_moved:
            return torch.addmm(offsets, block, self.features.T, alpha=factor, out=out)
        for start in range(0, len(self.features), len(self.chunk)):
            rows = self.features[start : start + len(self.chunk)]
            part = slice(start, start + len(rows))
            seen = torch.sub(rows, self.middle, out=self.chunk[: len(rows)])
            torch.addmm(offsets[part], block, seen.T, alpha=factor, out=out[:, part])
        return out


def middle_of(features: Tensor) -> Tensor:
    """Return the mean (D,) of (M, D), rounded to multiples of a power of two near the spread around it.

    The result is 0 where the mean is small compared with the spread; small integers and equal distances stay exact.

    >>> middle_of(torch.tensor([[7.0, 0.1], [8.0, -0.1], [9.0, 0.1]]))
    tensor([8., 0.])
    """
    mean = features.mean(0)
    spread = (features[:: max(1, len(features) // SAMPLE)] - mean).square().mean().sqrt()
    unit = torch.exp2(torch.log2(spread).round())
    return (mean / unit).round() * unit if unit > 0 else mean
