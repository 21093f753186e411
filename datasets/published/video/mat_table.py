"""The table of whole numbers in a file of MATLAB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....common.errors import UserError
from ....common.inputs.mat_file import read_mat

_DAMAGED = (ValueError, TypeError, OverflowError)


def read_table(file: Path, expected: str) -> np.ndarray:
    """Return the only table (N, M) int64 of a file.

    Args:
        expected: description of the table, for the error.
    Raises:
        UserError: damaged, several tables, or other values than whole numbers.
    """
    try:
        (values,) = read_mat(file).values()
        table = np.asarray(values)
        table = table.reshape(1, -1) if table.ndim < 2 else table  # a dimension of length 1 is left out
        whole = table.astype(np.int64)
        if whole.ndim != 2 or not np.array_equal(whole, table):
            raise ValueError(f"{table.dtype} {table.shape}")
    except _DAMAGED as error:
        raise UserError(
            f"{file}: cannot read a table of whole numbers, {expected} ({error!r:.100}); unpack or copy it again"
        ) from error
    return whole
