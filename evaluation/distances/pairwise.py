"""Distances of all queries to all gallery items, one block of queries at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..input_checks import squared_norms
from .centred_distances import Centred

BLOCK_ELEMENTS = 2**24  # distances held at once: 64 MiB of float32
Blocks = Iterator[tuple[int, Tensor]]


def distance_blocks(left: Tensor, right: Tensor, rows: int | None = None) -> Blocks:
    """Yield (first row, squared distances (b, M)) of blocks of `left` (N, D) to all of `right` (M, D).

    All blocks share one buffer, which may be overwritten. Both inputs are centred on `right`.

    Args:
        rows: rows per block, b; None = BLOCK_ELEMENTS distances per block.
    """
    centred = Centred(right)
    rows = rows or max(64, BLOCK_ELEMENTS // len(right))
    buffer = left.new_empty(min(rows, len(left)), len(right))
    for start in range(0, len(left), rows):
        block = left[start : start + rows] - centred.middle
        products = centred.products(centred.norms, block, -2, out=buffer[: len(block)])
        yield start, products.add_(squared_norms(block)[:, None]).clamp_(min=0)


def euclidean_blocks(left: Tensor, right: Tensor) -> Blocks:
    """Yield (first row, |a - b| (b, M)) of blocks of `left` (N, D) to all of `right` (M, D)."""
    for start, squared in distance_blocks(left, right):
        yield start, squared.sqrt_()


def cosine_blocks(left: Tensor, right: Tensor) -> Blocks:
    """Yield (first row, 1 - cosine (b, M)), without a scaled copy of `right`; a row of zeros has distance 1 to every row."""
    factors = squared_norms(right).clamp_(min=1e-24).rsqrt_().neg_()
    rows = max(64, BLOCK_ELEMENTS // len(right))
    buffer = right.new_empty(min(rows, len(left)), len(right))
    for start in range(0, len(left), rows):
        block = normalize(left[start : start + rows])
        products = torch.mm(block, right.T, out=buffer[: len(block)])
        yield start, products.mul_(factors).add_(1).clamp_(min=0)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Blocks]] = {"euclidean": euclidean_blocks, "cosine": cosine_blocks}
