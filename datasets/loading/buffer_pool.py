"""Memory of batches, used again: the system hands out fresh memory a page at a time, about a tenth of a batch's time."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np


class Buffers:
    """Arrays that come back when the last tensor made of them is gone; several threads may ask at once.

    Args:
        most_bytes: kept for later, at most; what came back first goes first.
    """

    def __init__(self, most_bytes: int = 2**28) -> None:
        self._most_bytes = most_bytes
        self._free: deque[np.ndarray] = deque()

    def empty(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Return an uninitialised array; it lives as long as it, or a tensor made of it, does: NumPy's views do not count."""
        own = self._find(shape, np.dtype(dtype))
        lent = own.view()
        weakref.finalize(lent, self._take_back, own).atexit = False
        return lent

    def _find(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        for _ in range(len(self._free)):
            try:
                array = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if array.shape == shape and array.dtype == dtype:
                return array
            self._free.append(array)
        return np.empty(shape, dtype)  # NumPy asks for huge pages, torch does not

    def _take_back(self, array: np.ndarray) -> None:
        """No lock: this runs whenever a tensor ends, in the middle of anything."""
        self._free.append(array)
        try:
            while sum(kept.nbytes for kept in tuple(self._free)) > self._most_bytes:
                self._free.popleft()
        except (IndexError, RuntimeError):  # another thread gave or took meanwhile; the next return looks again
            return


BATCHES = Buffers()
