"""Refuse, before the work, an output file that could not be written after it."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError


def check_output_file(option: str, path: str | Path, overwrite: bool = True) -> Path:
    """Return the path if a file can be written there.

    Args:
        option: option that names the file, for the message.
        overwrite: whether an existing file may be replaced.
    Raises:
        FileNotFoundError: the folder of the file does not exist.
        UserError: the path is a folder.
        FileExistsError: the file exists and `overwrite` is false.
    """
    path = Path(path).expanduser()
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option}: the folder {folder} does not exist; make it first")
    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder; give the name of a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{option}: {path} exists; choose another name, or add --overwrite")
    return path
