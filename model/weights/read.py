"""Reads weight files: safetensors, NumPy, torch -> tensors by name. Nothing in a file is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...common.errors import UserError
from ...common.inputs.archives import read_arrays
from ...common.inputs.regular_files import open_regular
from ...common.inputs.safetensors_file import open_safetensors, read_fact
from ..model_spec import ModelSpec
from ..stored_model import stored_spec
from .hub import fetch_model, is_hub_name
from .model_folder import model_config, weight_files
from .safe_unpickle import damaged, load_plain, load_tensors
from .wrappings import CONTAINERS, clean, find_state

SPEC = "vitreid.spec"  # our key in the metadata of a safetensors file


class WeightsFile(NamedTuple):
    """The tensors of a file or folder by name.

    Args:
        spec: of the model, from our own files.
        note: which of several sets of weights these are; empty if there is one.
        config: what config.json in a folder of Hugging Face says.
    """

    path: str
    tensors: dict[str, Tensor]
    spec: ModelSpec | None
    note: str = ""
    config: Mapping[str, Any] = MappingProxyType({})


class _Content(NamedTuple):
    tensors: dict[str, Tensor]
    spec: ModelSpec | None
    note: str = ""


def read_weights(path: str | Path, plain: bool = False) -> WeightsFile:
    """Return the tensors, on the CPU, of a .safetensors, a NumPy .npz or a torch file of any nesting, or of a model's folder.

    `hf-hub:owner/model` is the folder of that model in the hub's cache.

    Args:
        plain: accept a torch file with other objects than tensors and plain values, and drop these. Nothing in the file is
            executed either way.
    Raises:
        FileNotFoundError: no such file.
        ValueError: none of these formats, damaged, holding more than tensors and plain values, or no tensors at all.
    """
    path = fetch_model(str(path)) if is_hub_name(path) else Path(path)
    contents = [_read(file, plain) for file in weight_files(path)]
    tensors = {clean(name): tensor for content in contents for name, tensor in content.tensors.items()}
    if not tensors:
        raise UserError(
            f"{path} holds no tensors by name; expected a state dict, alone or under a key such as {', '.join(CONTAINERS)}"
        )
    return WeightsFile(str(path), tensors, contents[0].spec, contents[0].note, model_config(path))


def _read(path: Path, plain: bool) -> _Content:
    reader = _reader(path)
    return _understood(load_plain(path), path) if plain and reader is _read_torch else reader(path)


def _reader(path: Path) -> Callable[[Path], _Content]:
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
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError):  # the latter two: names, versions
        return False


def _read_numpy(path: Path) -> _Content:
    return _Content({name: torch.from_numpy(array) for name, array in read_arrays(path).items()}, None)


def _read_safetensors(path: Path) -> _Content:
    with open_safetensors(path) as file:
        spec = read_fact(file, SPEC, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _Content(tensors, None if spec is None else stored_spec(spec, path))


def _read_torch(path: Path) -> _Content:
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
        raise damaged(path, error) from error
    return _understood(content, path)


def _understood(content: Any, path: Path) -> _Content:
    spec = content.get("spec") if isinstance(content, Mapping) else None
    tensors, note = find_state(content)
    return _Content(tensors, stored_spec(spec, path) if isinstance(spec, Mapping) else None, note)
