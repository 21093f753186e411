"""Rows of a gallery that no search can use: NaN, infinite, zero where there must be a direction, of another length than 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...common.errors import UserError
from .metadata import GalleryInfo

LARGEST = 1e15  # largest length: its square stays finite in float32
SMALLEST = 1e-12  # a shorter row has no direction
ROUNDING = {"float32": 0.01, "float16": 0.01, "int8": 0.1}  # how far a stored unit vector may be from length 1


class LengthRange(NamedTuple):
    """Least and largest squared length of a row."""

    least: float = 0.0
    most: float = LARGEST**2

    def accepts(self, squares: np.ndarray) -> np.ndarray:
        """Return (n,) bool: the rows with these squared lengths can be used; NaN = not."""
        return (squares >= self.least) & (squares <= self.most)


def accepted_lengths(info: GalleryInfo) -> LengthRange:
    """Return the lengths of the rows: 1 if the model scales its embeddings so, else above 0."""
    if info.embed.get("normalize") is True and info.projection is None:
        return LengthRange((1 - ROUNDING[info.dtype]) ** 2, (1 + ROUNDING[info.dtype]) ** 2)
    return LengthRange(SMALLEST**2)


def squared_lengths(floats: np.ndarray, stored: np.ndarray | None = None) -> np.ndarray:
    """Return the squared lengths (n,) float32 of float32 rows (n, D).

    Args:
        stored: the rows as stored, if they are halves that were widened without a look at infinity and NaN.
    """
    squares = np.einsum("nd,nd->n", floats, floats)
    if stored is not None and stored.dtype == np.float16:
        squares[~np.isfinite(stored).all(1)] = np.nan
    return squares


def check_not_cut(vectors: np.ndarray, stored: np.ndarray, info: GalleryInfo) -> None:
    """Raise UserError if int8 cuts values of usable vectors (n, D) so far that searches would leave the row (n, D) out."""
    if info.scale is None:
        return
    lengths = accepted_lengths(info)
    before, after = (
        lengths.accepts(squared_lengths(np.asarray(floats, np.float32))) for floats in (vectors, info.decode(stored))
    )
    cut = np.flatnonzero(before & ~after)
    if len(cut):
        raise UserError(
            f"embeddings: row {cut[0]} holds values beyond the range of this int8 gallery, which would cut it to another length "
            f"({len(cut)} such rows); add it to the gallery that this one was made of, and make it again: vitreid gallery compress --int8"
        )


def reasons(squares: np.ndarray, info: GalleryInfo) -> dict[str, np.ndarray]:
    """Return the places (k,) of the unusable rows with these squared lengths (n,), by what is wrong with them."""
    is_wrong = ~accepted_lengths(info).accepts(squares)
    is_no_number = ~(squares <= LARGEST**2)
    is_zero = squares <= SMALLEST**2
    found = {
        "NaN, infinite or too large values": is_wrong & is_no_number,
        "zero": is_wrong & is_zero,
        "another length than 1": is_wrong & ~is_no_number & ~is_zero,
    }
    return {reason: np.flatnonzero(mask) for reason, mask in found.items() if mask.any()}
