"""Files of MATLAB, read by SciPy in another process: a damaged one can end the process that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from .reading_process import ReadingProcessError, read_elsewhere
from .regular_files import check_regular

MAT_BYTES = 2**26  # largest file; those of data sets' splits and labels have up to some megabytes


def read_mat(path: str | Path, most: int = MAT_BYTES) -> dict[str, Any]:
    """Return the variables of a file of MATLAB (up to version 7) as JSON types: structs are dicts, arrays and cells lists.

    Dimensions of length 1 are left out, as SciPy's `squeeze_me` does.

    Args:
        most: bytes that the file may have.
    Raises:
        FileNotFoundError, NotRegularFileError: as `check_regular`.
        UserError: it is damaged, of another form, or takes too much memory or time.
    """
    check_regular(path, most)
    try:
        return dict(read_elsewhere("mat", path))
    except ReadingProcessError as error:
        raise UserError(
            f"{path} is damaged or no file of MATLAB up to version 7 ({error}); download it again"
        ) from None
