"""Readers that a damaged file can crash, run in another process: a script prints what a file holds as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..text import first_line

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}  # each takes from the limit of memory


class ReadingProcessError(Exception):
    """The process was ended, took too long or raised an error; the text says which."""


def read_elsewhere(script: Path, path: str | Path, *, seconds: float) -> Any:
    """Return the JSON that a script prints for a file.

    Args:
        script: is given the absolute path; imports nothing of vitreid.
        seconds: that it may take.
    Raises:
        ReadingProcessError: it did not end in order, or in time.
    """
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-W", "ignore", str(script), str(Path(path).absolute())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=seconds,
                env=os.environ | ONE_THREAD,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReadingProcessError(f"not read within {seconds:g} s") from None
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            ended = f"the reader was ended by signal {-done.returncode}"
            raise ReadingProcessError(ended if done.returncode < 0 else first_line(last)[:200])
        output.seek(0)
        return json.load(output)
