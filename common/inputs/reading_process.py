"""Readers that a damaged file can end, run in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("reader_script.py")
PATIENCE = 120  # seconds
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}  # each takes from the limit of memory


class ReadingProcessError(Exception):
    """The process was ended, took too long or raised an error; the text says which."""


def read_elsewhere(kind: str, path: str | Path) -> Any:
    """Return what a reader of `reader_script` returns for a file, as JSON types.

    Args:
        kind: a key of its READERS.
    Raises:
        ReadingProcessError: it did not end in order, or in time.
    """
    try:
        done = subprocess.run(
            reader_command(kind, path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=os.environ | ONE_THREAD,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ReadingProcessError(f"not read within {PATIENCE:g} s") from None
    if done.returncode:
        raise ReadingProcessError(why_ended(done.returncode, done.stderr))
    return json.loads(done.stdout)


def reader_command(kind: str, path: str | Path, *words: str) -> list[str]:
    """Return the command that starts the script; its environment has ONE_THREAD."""
    return [sys.executable, "-I", "-W", "ignore", str(SCRIPT), kind, str(Path(path).absolute()), *words]


def why_ended(status: int, errors: bytes) -> str:
    """Return why the script ended with a status other than 0, given what it wrote as errors."""
    if status < 0:
        return f"the reader was ended by signal {-status}"
    return errors.decode(errors="replace").strip().rpartition("\n")[2][:200]
