"""How many rows of a large product are computed at once."""

from __future__ import annotations

CACHED_ELEMENTS = 2**22  # 16 MiB of float32: what is computed on next is still in the processor's cache
MOST_ELEMENTS = 2**26  # 256 MiB
EFFICIENT_ROWS = 256  # fewer make the matrix product slower


def block_rows(num_columns: int) -> int:
    """Return the rows of a block that has `num_columns` columns: what fits the cache, else enough for a fast product."""
    return max(1, CACHED_ELEMENTS // num_columns, min(EFFICIENT_ROWS, MOST_ELEMENTS // num_columns))
