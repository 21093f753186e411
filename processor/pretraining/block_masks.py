"""Random masks of patches: rectangles, as in BEiT and iBOT."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

ASPECT = (0.3, 1 / 0.3)  # height over width of a rectangle, least and most
SMALLEST = 2  # tokens of a rectangle
ATTEMPTS = 10  # at rectangles per mask; what is missing then is drawn token by token


def draw_masks(
    number: int, grid: tuple[int, int], share: float, ratio: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """Draw a mask for each of `number` crops.

    Args:
        grid: tokens (down, across).
        share: part of the crops that have masked tokens, at least one crop.
        ratio: part of their tokens that is masked, least and most; at least one token.
    Returns:
        (number, down, across) bool, on the CPU; True = masked.
    """
    masks = np.zeros((number, *grid), dtype=bool)
    for place in rng.permutation(number)[: max(1, round(share * number))]:
        count = max(1, round(rng.uniform(*ratio) * grid[0] * grid[1]))
        _mask_blocks(masks[place], count, rng)
    return torch.from_numpy(masks)


def _mask_blocks(mask: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Mask exactly `count` tokens of (down, across), in place."""
    down, across = mask.shape
    for _ in range(ATTEMPTS):
        left = count - int(mask.sum())
        if left < SMALLEST:
            break
        area = rng.uniform(SMALLEST, left)
        aspect = math.exp(rng.uniform(*np.log(ASPECT)))
        height, width = (max(1, round(size)) for size in (math.sqrt(area * aspect), math.sqrt(area / aspect)))
        if height > down or width > across:
            continue
        top, first = rng.integers(down - height + 1), rng.integers(across - width + 1)
        block = mask[top : top + height, first : first + width]
        if block.size - block.sum() <= left:
            block[:] = True
    free = np.flatnonzero(~mask.ravel())
    missing = count - int(mask.sum())
    mask.ravel()[rng.permutation(free)[:missing]] = True
