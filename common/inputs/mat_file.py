"""Files of MATLAB, read by SciPy in another process: a damaged one can end the process that reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UserError
from .regular_files import check_regular

MAT_BYTES = 2**26  # largest file; those of data sets' splits and labels have up to some megabytes
READER = Path(__file__).with_name("mat_reader.py")
PATIENCE = 120  # seconds
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}  # each takes from the limit of memory


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
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-W", "ignore", str(READER), str(Path(path).absolute())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                env=os.environ | ONE_THREAD,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{path}: not read within {PATIENCE} s; it is no file of MATLAB that vitreid reads"
            ) from None
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
            why = f"the reader was ended by signal {-done.returncode}" if done.returncode < 0 else last
            raise UserError(f"{path} is damaged or no file of MATLAB up to version 7 ({why}); download it again")
        output.seek(0)
        return dict(json.load(output))
