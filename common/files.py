"""Files that are either old or new, never half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, then put the result in `path`'s place in one step.

    A process killed while writing leaves `path` as it was.

    Raises:
        OSError: the disk is full or the folder not writable; names the file, which is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # always the same: what a killed process left is written over
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner can read
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save reports a full disk as a RuntimeError
        raise OSError(
            f"cannot write {path}: {error}; free some space or choose another OUTPUT_DIR. Any earlier {path.name} is intact"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _umask() -> int:
    """Return the permissions that new files must not have; the system returns them only while setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
