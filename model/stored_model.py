"""The model that a file describes, built only if the file can hold its numbers: a few bytes can ask for a million blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..common.errors import UserError
from .model_spec import ModelSpec
from .reid_model import ReidModel

SMALL = 2**26  # bytes that the model of any file may take
EXPANSION = 4  # larger ones: times the size of the file, which may keep half precision
_ON_META = {  # skipped for these only: `trunc_normal_` of real tensors draws until all values are in range
    Tensor.normal_,
    Tensor.uniform_,
    Tensor.clamp_,
}
_SKIPPED = {  # `erfinv_` takes long, and is used for truncated normals alone
    *(Tensor.erfinv_, nn.init.orthogonal_),
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.xavier_uniform_),
}


def build_stored(description: Any, path: str | Path) -> ReidModel:
    """Return the model, whose weights the caller replaces: they are not initialised.

    Args:
        description: what the file says of its model, as `ModelSpec.to_dict` wrote it.
        path: the file.
    Raises:
        UserError: there is no such model, or one of that size cannot be in the file.
    """
    spec = stored_spec(description, path)
    try:
        with _WithoutRandomNumbers(), torch.device("meta"):  # shapes without memory
            planned = ReidModel(spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # timm's networks raise any kind for sizes that do not fit each other
        raise UserError(f"{path}: no model can be built as it says ({type(error).__name__}: {error})") from error
    needed = sum(value.numel() * value.element_size() for value in (*planned.parameters(), *planned.buffers()))
    size = Path(path).stat().st_size
    if needed > max(SMALL, EXPANSION * size):
        raise UserError(
            f"{path} has {size / 1e6:,.1f} MB and describes a model of {needed / 1e6:,.0f} MB, {spec.title}, which it cannot "
            "hold; do not use it"
        )
    with _WithoutRandomNumbers():
        return ReidModel(spec)


class _WithoutRandomNumbers(TorchFunctionMode):
    """A context that leaves out most random numbers of new weights; they take more than half of the time of building a model."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        named = options or {}
        tensor = args[0] if args else named.get("tensor")
        if function in _SKIPPED or (function in _ON_META and tensor.is_meta):  # type: ignore[union-attr]
            return tensor
        return function(*args, **named)


def stored_spec(description: Any, path: str | Path) -> ModelSpec:
    """Return the checked description; raise UserError, naming the file."""
    if not isinstance(description, Mapping):
        raise UserError(f"{path}: the description of its model is no object; copy or train it again")
    try:
        return ModelSpec.from_dict(description)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
