"""Reads torch files without executing anything from them, also old ones that hold other objects than tensors.

A pickle names classes and functions to call. Only those that rebuild tensors and plain containers are called; any other becomes
an empty stand-in, which is dropped. torch.load(weights_only=True) with safe_globals does not replace this: it reads neither
torch's format before 1.6 nor subclasses of dict and list, and needs torch 2.6 to list the names.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.serialization import SourceChangeWarning

from ...common.errors import UserError
from ...common.inputs.archives import SMALL, check_archive
from ...common.inputs.regular_files import open_regular
from ...common.text import num_values

OLDEST_TORCH = (2, 10)  # as in pyproject.toml; older ones have holes in weights_only
SHORTEST = 2**12  # bytes that a reader may ask for at the end of any file
MOST_VALUES = 10**7  # in a file, tensors counted as one; last.pth has one for each of its people
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}


class StandIn:
    """Replaces an object of any other class: accepts all arguments and items, and stores nothing."""

    dump_patches = False  # torch reads this attribute of module classes

    def __new__(cls, *args: Any, **options: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Drop an item of a list."""

    def extend(self, items: Any) -> None:
        """Drop several items of a list."""


class Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Finds only the names in `ALLOWED` and torch's dtypes.

    Python's own unpickler, not that in C: there, 6 bytes make the list of remembered objects 16 GB long.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def load_bytearray8(self: Any) -> None:
        """Read the bytes of a bytearray; Python's own method makes one of the stated length first."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        """Return the allowed object of that name, or a stand-in."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return StandIn


def load(file: Any, **options: Any) -> Any:
    """Read one pickle; torch calls it twice for its oldest files."""
    return Unpickler(file, **options).load()


def load_tensors(path: str | Path) -> Any:
    """Return the content of a torch file that holds only tensors and plain values, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        UserError: a kind that torch would execute or unpack, or a file that would take far more memory than it has bytes.
        pickle.UnpicklingError: it holds other objects, or is no torch file.
        Exception: a damaged or foreign file can raise any kind inside the unpickler.
    """
    check_torch_file(path)
    with _for_torch(path) as file:
        content = torch.load(file, map_location="cpu", weights_only=True)
    return _check_content(content, path)


def load_plain(path: str | Path) -> Any:
    """Return the content of a torch file, on the CPU, with stand-ins for all but tensors and plain values.

    Raises:
        ValueError: damaged, no torch file, or a kind that torch would execute or unpack.
    """
    check_torch_file(path)
    try:
        with warnings.catch_warnings(), _for_torch(path) as file:
            warnings.simplefilter("ignore", SourceChangeWarning)  # a stand-in's source always differs from the file's
            content = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_PickleModule)  # nosec B614
            return _check_content(content, path)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged or foreign file can raise any kind inside the unpickler
        raise damaged(path, error) from error


def damaged(path: str | Path, error: Exception) -> UserError:
    """Return the error of a file that torch cannot read."""
    reason = f"{type(error).__name__}: {str(error)[:120]}"
    return UserError(f"{path} is damaged or no torch file ({reason}); copy or download it again")


def check_torch_file(path: str | Path) -> None:
    """Raise, before torch opens the file, if it is no regular one, would unpack to too much, or would be executed.

    Raises:
        FileNotFoundError: no such file.
        UserError: as said; also if torch itself is too old to read strangers' files.
    """
    if _version(torch.__version__) < OLDEST_TORCH:
        raise UserError(
            f"{path}: torch {torch.__version__} can be made to run code by such a file (CVE-2025-32434, CVE-2026-24747); update "
            f"torch to {'.'.join(map(str, OLDEST_TORCH))} or newer, or use a .safetensors file"
        )
    with open_regular(path) as file, suppress(zipfile.BadZipFile):  # torch's format before 1.6 is no archive
        check_archive(file, path)
    refuse_programs(path)


@contextmanager
def _for_torch(path: str | Path) -> Iterator[Any]:
    """Yield what torch is to open: the path of an archive, a `BoundedFile` of torch's format before 1.6."""
    with BoundedFile(path) as file:
        if file.read(4) == b"PK\x03\x04":
            yield str(path)
        else:
            file.seek(0)
            yield file


class BoundedFile(io.FileIO):
    """A pickle may state that 2^63 bytes follow: reading more than there are is an error before memory is taken."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes.

        Raises:
            pickle.UnpicklingError: there are fewer.
        """
        left = os.fstat(self.fileno()).st_size - self.tell()
        if size is not None and size > max(left, SHORTEST):
            raise pickle.UnpicklingError(f"states a part of {size} bytes, {left} follow")
        return super().read(size) or b""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _check_content(content: Any, path: str | Path) -> Any:
    """Return the content; raise UserError if repeated parts make it, or one of its tensors, larger than the file."""
    if num_values(content) > MOST_VALUES:
        raise UserError(f"{path} holds lists or dictionaries nested too deeply, or in each other; do not use it")
    for name, tensor in _tensors(content):
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise UserError(f"{path}: {name} is no plain tensor ({tensor.layout}, {tensor.device}); save it as one")
        size = tensor.numel() * tensor.element_size()
        if size > max(SMALL, tensor.untyped_storage().nbytes()):
            raise UserError(
                f"{path}: {name} {tuple(tensor.shape)} would take {size / 1e6:,.0f} MB, the file has only "
                f"{tensor.untyped_storage().nbytes() / 1e6:,.1f} MB of it; do not use it"
            )
    return content


def _tensors(content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors in nested lists and dictionaries with the names under which they are found."""
    waiting, seen = [("", content)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(str(key)[:200], item) for key, item in items]


def refuse_programs(path: str | Path) -> None:
    """Raise ValueError for the two kinds of file that torch.load never reads as a pickle: tar and TorchScript archives."""
    if _is_tar(path):
        raise UserError(
            f"{path} is a tar archive, as torch wrote before 2017; torch would unpack it without looking at the paths in it, so it "
            f"is refused. Load it with an old torch where you trust it and save its state dict: torch.save(model.state_dict(), ...)"
        )
    if "constants.pkl" in _records(path):  # torch recognises TorchScript by this name
        raise UserError(
            f"{path} is a TorchScript archive, which is code that torch would run, so it is refused. Where you trust it, save its "
            f"tensors alone: torch.save(torch.jit.load({str(path)!r}).state_dict(), ...)"
        )


def _is_tar(path: str | Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True


def _records(path: str | Path) -> list[str]:
    """Return the names in a zip archive as torch's own reader sees them; none in another file."""
    try:
        return torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError:
        return []


class _PickleModule:
    """The attributes of a pickle module that torch.load uses."""

    __name__ = "plain_pickle"
    Unpickler, load = Unpickler, staticmethod(load)
