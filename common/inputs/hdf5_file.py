"""Files of MATLAB's version 7.3, which are HDF5, read by h5py in another process: a damaged one can end the process that reads it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from ..errors import MissingPackageError, UserError
from .reader_script import NO_PACKAGE
from .reading_process import ONE_THREAD, reader_command, why_ended
from .regular_files import check_regular

HDF5_BYTES = 2**33  # largest file
ARRAY_BYTES = 2**26  # largest array in a cell
ALL_BYTES = 2**34  # of all arrays together: references can name one array many times
MOST_CELLS = 2**20
LINE_BYTES = 2**12
PATIENCE = 2 * 3600.0  # seconds
NO_PLUGINS = {
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
}  # a file can ask for a library as its filter


class Cell(NamedTuple):
    """An array in a cell.

    Args:
        variable: the variable's name.
        way: its place (row, column) in each cell array on the way to it, counted from 0.
        values: the array, in MATLAB's order of dimensions.
    """

    variable: str
    way: tuple[tuple[int, ...], ...]
    values: np.ndarray


def read_cells(path: str | Path, variables: Sequence[str], most: int = HDF5_BYTES) -> Iterator[Cell]:
    """Yield the arrays in cell arrays of a file of MATLAB's version 7.3, one by one; empty cells are left out.

    Args:
        variables: names of the cell arrays, whose cells may be cell arrays themselves.
        most: bytes that the file may have.
    Raises:
        FileNotFoundError, NotRegularFileError: as `check_regular`.
        MissingPackageError: h5py is not installed.
        UserError: it is damaged, of another form, or takes too much memory or time.
    """
    check_regular(path, most)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            reader_command("cells", path, str(ARRAY_BYTES), *variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | ONE_THREAD | NO_PLUGINS,
        )
        assert process.stdout is not None  # for the type checker
        timer = threading.Timer(PATIENCE, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield from _cells(process.stdout, Path(path))
            _check_end(process.wait(), errors, Path(path), is_late=not timer.is_alive())
        finally:
            timer.cancel()
            process.kill()
            process.stdout.close()
            process.wait()


def _cells(output: IO[bytes], path: Path) -> Iterator[Cell]:
    """Yield what the reader prints, up to its end; an incomplete array is the last sign of a reader that was ended."""
    total = count = 0
    while (line := output.readline(LINE_BYTES)).endswith(b"\n"):
        name, way, kind, shape = json.loads(line)
        size = np.dtype(kind).itemsize * math.prod(shape)
        total, count = total + size, count + 1
        if total > ALL_BYTES or count > MOST_CELLS:
            most = f"{ALL_BYTES / 1e9:,.0f} GB or {MOST_CELLS:,} arrays"
            raise UserError(f"{path} unpacks to more than {most}; is it the right file?")
        content = output.read(size)
        if len(content) < size:
            return
        yield Cell(name, tuple(map(tuple, way)), np.frombuffer(content, kind).reshape(shape))


def _check_end(status: int, errors: BinaryIO, path: Path, is_late: bool) -> None:
    """Raise the error that the exit status of the reader means, if any."""
    if status and is_late:
        raise UserError(f"{path}: not read within {PATIENCE:g} s; it is no file of MATLAB that vitreid reads")
    if status == NO_PACKAGE:
        raise MissingPackageError(f'{path} is read by h5py: pip install "vitreid[hdf5]"', name="h5py")
    if status:
        errors.seek(0)
        why = why_ended(status, errors.read(2**20))
        raise UserError(f"{path} is damaged or no file of MATLAB's version 7.3 ({why}); download it again")
