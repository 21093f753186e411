"""Unpickles old torch files that hold other objects than tensors, without executing anything from the file.

A pickle names classes and functions to call. Only those that rebuild tensors and plain containers are called; any other becomes
an empty stand-in, which is dropped. torch.load(weights_only=True) with safe_globals does not replace this: it reads neither
torch's format before 1.6 nor subclasses of dict and list, and needs torch 2.6 to list the names.
"""

from __future__ import annotations

import collections
import pickle
import tarfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.serialization import SourceChangeWarning

from ...common.errors import UserError

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


class Unpickler(pickle.Unpickler):
    """Finds only the names in `ALLOWED` and torch's dtypes."""

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


def load_plain(path: str | Path) -> Any:
    """Return the content of a torch file, on the CPU, with stand-ins for all but tensors and plain values.

    Raises:
        ValueError: damaged, no torch file, or a kind that torch would execute or unpack.
    """
    refuse_programs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceChangeWarning)  # a stand-in's source always differs from the file's
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PickleModule)
    except MemoryError:
        raise
    except Exception as error:  # a damaged or foreign file can raise any kind inside the unpickler
        raise UserError(
            f"{path} is damaged or no torch file ({type(error).__name__}: {str(error)[:120]}); copy or download it again"
        ) from error


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
