"""Deploy checkpoint: one safetensors file with weights, model spec and metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.safetensors_file import open_safetensors, read_fact
from ..reid_model import ReidModel
from ..stored_model import build_stored
from .read import SPEC

META = "vitreid.meta"


def save_deploy(path: str | Path, model: ReidModel, meta: Mapping[str, Any]) -> None:
    """Write the model and `meta` (JSON types: config, preprocessing, metrics, ...) atomically.

    A process killed while writing leaves the earlier file as it was.

    Raises:
        OSError: the file cannot be written; the earlier one is intact.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    about = {SPEC: json.dumps(model.spec.to_dict()), META: json.dumps(dict(meta))}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=about))


def is_deploy(path: str | Path) -> bool:
    """Return whether a safetensors file holds a model spec, as `save_deploy` writes it.

    Raises:
        ValueError: damaged, or not a safetensors file.
    """
    with _opened(path) as file:
        return SPEC in (file.metadata() or {})


def load_deploy(path: str | Path, device: str | torch.device = "cpu") -> tuple[ReidModel, dict[str, Any]]:
    """Return the model in evaluation mode, and its `meta`; needs no config and no data set.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a deploy checkpoint of ours, damaged, or with other tensors than its description asks for.
    """
    with _opened(path) as file:
        spec, about = read_fact(file, SPEC, path), read_fact(file, META, path) or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if spec is None:
        raise UserError(
            f"{path} does not describe its model, so it is not a deploy checkpoint of vitreid; give the config too, its weights are then imported by name"
        )
    if not isinstance(about, dict):
        raise UserError(f"{path}: its metadata are no JSON object; copy or train it again")
    model = build_stored(spec, path)
    fill(model, tensors, path)
    return model.to(device).eval(), about


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a safetensors file without reading its tensors."""
    try:
        with open_safetensors(path, remedy="copy or train it again") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such checkpoint") from None


def fill(model: ReidModel, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Load all tensors of the file into the model; raise ValueError if some are missing, unexpected or of another shape."""
    target = model.state_dict()
    missing, unexpected = sorted(target.keys() - tensors.keys()), sorted(tensors.keys() - target.keys())
    reshaped = sorted(name for name in target.keys() & tensors.keys() if target[name].shape != tensors[name].shape)
    if missing or unexpected or reshaped:
        raise UserError(
            f"{path} does not hold the model that it describes: missing {', '.join(missing) or 'none'}; unexpected "
            f"{', '.join(unexpected) or 'none'}; of another shape {', '.join(reshaped) or 'none'}"
        )
    model.load_state_dict(dict(tensors))
