"""Zip archives of arrays: what they unpack to is known, and compared with a limit, before memory is taken."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from ..errors import UserError
from .regular_files import open_regular

SMALL = 2**26  # bytes that any archive may unpack to
EXPANSION = 20  # larger ones: times the size of the file. Weights hardly compress
MOST_MEMBERS = 100_000
NUMBERS, TEXT = "biufc", "U"  # kinds of NumPy's types
DAMAGE = (  # raised by zipfile, zlib and NumPy for files with changed or missing bytes, tried on 20,000 of them
    *(OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, SyntaxError, OverflowError, RecursionError, tokenize.TokenError),
)


class ArchiveTooLargeError(UserError):
    """An archive that would unpack to far more bytes than the file has."""


def check_archive(file: BinaryIO, path: str | Path) -> None:
    """Raise ArchiveTooLargeError if the zip archive unpacks to too much; nothing is unpacked.

    Raises:
        zipfile.BadZipFile: it is no zip archive, or a damaged one.
    """
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (UnicodeDecodeError, NotImplementedError) as error:  # of a name; a version of the format
        raise zipfile.BadZipFile(str(error)) from error
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS:
        raise ArchiveTooLargeError(f"{path} holds {len(members)} parts, accepted are {MOST_MEMBERS}")
    if unpacked > max(SMALL, EXPANSION * size):
        raise ArchiveTooLargeError(
            f"{path} has {size / 1e6:,.1f} MB and would unpack to {unpacked / 1e6:,.0f} MB, which weights and embeddings never "
            "do; do not use it"
        )
    file.seek(0)


def read_arrays(path: str | Path, kinds: str = NUMBERS) -> dict[str, np.ndarray]:
    """Return the arrays in a .npz file by name.

    Args:
        kinds: accepted kinds of types, as `numpy.dtype.kind`.
    Raises:
        FileNotFoundError: no such file.
        UserError: it is damaged, holds other things than arrays of these kinds, or unpacks to too much.
    """
    with open_regular(path) as file:
        try:
            check_archive(file, path)
            with zipfile.ZipFile(file) as archive:
                return {
                    member.filename.removesuffix(".npy"): _read_array(archive.open(member), member.file_size, kinds)
                    for member in archive.infolist()
                }
        except UserError:
            raise
        except DAMAGE as error:
            raise UserError(f"{path} is damaged or holds more than arrays of numbers ({error})") from error


def _read_array(member: IO[bytes], size: int, kinds: str) -> np.ndarray:
    """Return the array of a .npy file of `size` bytes; its header must ask for as many bytes as follow."""
    shape, is_fortran, dtype = read_header(member)
    count = math.prod(shape)
    if dtype.kind not in kinds or min(shape, default=0) < 0 or count * dtype.itemsize != size - member.tell():
        raise ValueError(f"an array of {dtype} {shape} in {size} bytes")
    values = np.frombuffer(member.read(), dtype, count).reshape(shape, order="F" if is_fortran else "C")
    return values.astype(dtype.newbyteorder("="), order="C")  # a copy, which is writable


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether in Fortran order, and type of an .npy file opened at its start.

    Raises:
        ValueError, EOFError, SyntaxError: it is none.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    return _HEADERS[version](file)


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
