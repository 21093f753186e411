"""The table of whole numbers in a file of MATLAB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from ....common.errors import UserError

_DAMAGED = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, MatReadError)


def read_table(file: Path, expected: str) -> np.ndarray:
    """Return the only table (N, M) int64 of a file.

    Args:
        expected: description of the table, for the error.
    Raises:
        UserError: damaged, several tables, or other values than whole numbers.
    """
    try:
        (table,) = [values for name, values in loadmat(file).items() if not name.startswith("__")]
        whole = table.astype(np.int64)
        if whole.ndim != 2 or not np.array_equal(whole, table):
            raise ValueError(f"{table.dtype} {table.shape}")
    except _DAMAGED as error:
        raise UserError(
            f"{file}: cannot read a table of whole numbers, {expected} ({error!r:.100}); unpack or copy it again"
        ) from error
    return whole
