"""Resampling of position embeddings, and of tables of relative positions, to another grid of patches."""

from __future__ import annotations

import math

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from torch.nn.functional import interpolate

Grid = tuple[int, int]
ASPECTS = (2, 3)  # height over width of the usual person crops: 256x128 and 384x128


def resize_pos_embed(
    source: Tensor, grid: Grid, num_prefix: int, source_prefix: int, source_grid: Grid | None = None
) -> tuple[Tensor, Grid]:
    """Return `source` (1, S, D) resampled (bicubic) to (1, num_prefix + grid, D), and the grid it came from.

    Args:
        num_prefix: class, distillation and register tokens with a position embedding in the model.
        source_prefix: the same in the file's model; 0 is tried too, for models without position embeddings of these tokens.
        source_grid: (down, across), if known; otherwise guessed from the number of tokens, see `guess_grid`.
    """
    if source_grid is not None:
        source_prefix = source.shape[1] - source_grid[0] * source_grid[1]
    elif not _is_square(source.shape[1] - source_prefix) and _is_square(source.shape[1]):
        source_prefix = 0
    prefix, patches = source[:, :source_prefix], source[:, source_prefix:]
    old = source_grid or guess_grid(patches.shape[1], like=grid)
    patches = resample_abs_pos_embed(patches, list(grid), list(old), num_prefix_tokens=0)
    missing = prefix.new_zeros(1, max(num_prefix - source_prefix, 0), prefix.shape[2])
    return torch.cat([prefix[:, :num_prefix], missing, patches], dim=1), old


def resize_bias_table(table: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """Return a table of relative position biases (S, heads) resampled (bicubic) to the distances in `grid`, and its old grid.

    A grid of (h, w) tokens has (2h - 1) * (2w - 1) distances; further rows at the end, of a class token, stay as they are. The old
    grid is taken to be square.
    """
    side = math.isqrt(len(table))
    distances, further = table[: side**2], table[side**2 :]
    planes = distances.t().reshape(1, -1, side, side)  # (1, heads, 2h - 1, 2w - 1)
    size = (2 * grid[0] - 1, 2 * grid[1] - 1)
    resized = interpolate(planes.float(), size=size, mode="bicubic", align_corners=False).to(table.dtype)
    old = ((side + 1) // 2, (side + 1) // 2)
    return torch.cat([resized.flatten(2)[0].t(), further]), old


def guess_grid(count: int, like: Grid) -> Grid:
    """Return the likely (down, across) of `count` patches: as `like`, square, or nearest to a usual person crop.

    >>> guess_grid(196, like=(16, 8)), guess_grid(128, like=(24, 8)), guess_grid(210, like=(16, 8))
    ((14, 14), (16, 8), (21, 10))
    """
    if like[0] * like[1] == count:
        return like
    if _is_square(count):
        return math.isqrt(count), math.isqrt(count)
    pairs = [(count // width, width) for width in range(1, math.isqrt(count) + 1) if count % width == 0]
    return min(pairs, key=lambda pair: min(abs(math.log(pair[0] / pair[1] / aspect)) for aspect in ASPECTS))


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count
