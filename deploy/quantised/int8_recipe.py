"""What INT8 computes: the calibration batches, and which layers stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BATCH = 16  # images of a calibration batch
ALL, CAREFUL = "all", "careful"
LEVELS = {  # tried in this order until one passes the comparison
    ALL: "all convolutions and products with weights",
    CAREFUL: "as all, but the first and the last of them and the second layer of each MLP stay in float32",
}


class Int8Recipe(NamedTuple):
    """How to quantise.

    Args:
        inputs: the calibration crops as the model takes them: images (N, 3, H, W) and, if it takes them, cameras (N,).
        level: a key of `LEVELS`.
    """

    inputs: tuple[np.ndarray, ...]
    level: str = ALL

    def batches(self, size: int = BATCH) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the crops in batches of `size`; a last one that is not full is left out, unless it is the only one."""
        count = len(self.inputs[0])
        for start in range(0, max(count - size, 0) + 1, size):
            yield tuple(array[start : start + size] for array in self.inputs)
