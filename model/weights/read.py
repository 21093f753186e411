"""Reads weight files: safetensors, NumPy, torch -> tensors by name. Nothing in a file is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...common.errors import UserError
from ...common.inputs.archives import read_arrays
from ...common.inputs.regular_files import open_regular
from ...common.inputs.safetensors_file import open_safetensors, read_fact
from ..model_spec import ModelSpec
from ..stored_model import stored_spec
from .safe_unpickle import load_plain, load_tensors

CONTAINERS = (  # keys under which a file may hold its tensors, best first
    "state_dict_ema",
    "state_dict",
    "model",
    "teacher",
    "trainer",
    "ema",
    "module",
)
WRAPPERS = ("module.", "_orig_mod.")  # name prefixes of DistributedDataParallel and torch.compile
SPEC = "vitreid.spec"  # our key in the metadata of a safetensors file


class WeightsFile(NamedTuple):
    """The tensors of a file by name and, from our own files, the spec of their model."""

    path: str
    tensors: dict[str, Tensor]
    spec: ModelSpec | None


def read_weights(path: str | Path, plain: bool = False) -> WeightsFile:
    """Return the tensors, on the CPU, of a .safetensors, a NumPy .npz or a torch file of any of the usual nestings.

    Args:
        plain: accept a torch file with other objects than tensors and plain values, and drop these. Nothing in the file is
            executed either way.
    Raises:
        FileNotFoundError: no such file.
        ValueError: none of these formats, damaged, holding more than tensors and plain values, or no tensors at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weight file" + (" (it is a folder)" if path.is_dir() else ""))
    reader = _reader(path)
    tensors, spec = _understood(load_plain(path), path) if plain and reader is _read_torch else reader(path)
    if not tensors:
        raise UserError(
            f"{path} holds no tensors by name; expected a state dict, alone or under one of {', '.join(CONTAINERS)}"
        )
    return WeightsFile(str(path), {_unwrapped(name): tensor for name, tensor in tensors.items()}, spec)


def _reader(path: Path) -> Callable[[Path], tuple[dict[str, Tensor], ModelSpec | None]]:
    if _is_safetensors(path):
        return _read_safetensors
    return _read_numpy if _is_numpy(path) else _read_torch


def _is_safetensors(path: Path) -> bool:
    """Return whether the file is safetensors: 8 bytes of length, then a JSON object."""
    with open_regular(path) as file:
        return (file.read(9) or b"")[8:] == b"{" or path.suffix == ".safetensors"


def _is_numpy(path: Path) -> bool:
    """Return whether the file is a zip archive of .npy files; torch's archives hold other files."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _read_numpy(path: Path) -> tuple[dict[str, Tensor], None]:
    return {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}, None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelSpec | None]:
    with open_safetensors(path) as file:
        spec = read_fact(file, SPEC, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, None if spec is None else stored_spec(spec, path)


def _read_torch(path: Path) -> tuple[dict[str, Tensor], ModelSpec | None]:
    try:
        content = load_tensors(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is no torch file; such a file can run code when it is "
            f"opened, so it is refused. `vitreid convert --plain {path} OUT.safetensors --config_file FILE` takes its tensors "
            f"without running anything; or save its state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged or foreign file can raise any kind inside the unpickler
        raise UserError(
            f"{path} is damaged or no torch file ({type(error).__name__}: {str(error)[:120]}); copy or download it again"
        ) from error
    return _understood(content, path)


def _understood(content: Any, path: Path) -> tuple[dict[str, Tensor], ModelSpec | None]:
    spec = content.get("spec") if isinstance(content, Mapping) else None
    return _find_tensors(content), stored_spec(spec, path) if isinstance(spec, Mapping) else None


def _find_tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for key in CONTAINERS:
        inner = _find_tensors(content.get(key))
        if inner:
            return inner
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name[name.index(".") + 1 :]
    return name
