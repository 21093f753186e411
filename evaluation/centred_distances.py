"""Products of embeddings seen from their middle: distances stay what they are, and those of close embeddings lose no digits."""

from __future__ import annotations

import torch
from torch import Tensor

from .input_checks import squared_norms

CHUNK_ELEMENTS = 2**20  # 4 MiB of float32, the most that is copied at once on a CPU: it stays in the processor's cache
DEVICE_ELEMENTS = 2**24  # 64 MiB on a GPU, where few large products are faster
SAMPLE = 1000  # rows that tell the spread


class Centred:
    """Embeddings seen from a point in their middle.

    |q - g|^2 = |q|^2 - 2 q.g + |g|^2 subtracts numbers of the size of the lengths to find one of the size of the distance,
    and float32 has seven digits. Seen from the middle, the lengths are of the size of the distances.

    Args:
        features: (M, D), finite; they are kept as they are, the middle is taken out of a few rows at a time.
        norms: (M,) their squared lengths, if they are known.
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
        """Write offsets (M,) + factor * the products of `block` (b, D), itself seen from the middle, with all rows, into out (b, M)."""
        if not self.is_moved:
            return torch.addmm(offsets, block, self.features.T, alpha=factor, out=out)
        for start in range(0, len(self.features), len(self.chunk)):
            rows = self.features[start : start + len(self.chunk)]
            part = slice(start, start + len(rows))
            seen = torch.sub(rows, self.middle, out=self.chunk[: len(rows)])
            torch.addmm(offsets[part], block, seen.T, alpha=factor, out=out[:, part])
        return out


def middle_of(features: Tensor) -> Tensor:
    """Return the mean (D,) of (M, D), rounded to a power of two near the spread around it.

    So it is 0 where the mean is small beside the spread, and what is exact stays exact: small integers, equal distances.

    >>> middle_of(torch.tensor([[7.0, 0.1], [8.0, -0.1], [9.0, 0.1]]))
    tensor([8., 0.])
    """
    mean = features.mean(0)
    spread = (features[:: max(1, len(features) // SAMPLE)] - mean).square().mean().sqrt()
    unit = torch.exp2(torch.log2(spread).round())
    return (mean / unit).round() * unit if unit > 0 else mean
