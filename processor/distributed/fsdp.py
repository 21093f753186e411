"""FSDP2: every process keeps a part of the weights, gradients and optimizer state, for backbones that are large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...common.errors import UserError
from ...model import ReidModel
from ..training.training_module import TrainingModule
from .consistency import check_same
from .ddp import Copies
from .process_group import Ranks
from .sync_batchnorm import synchronise_norms


class Shards(Copies):
    """Every process keeps its part of each tensor; a block's weights are put together while it computes.

    FSDP averages gradients after every backward pass, those of the neck and the loss as well.
    """

    def callable(self, backbone: nn.Module) -> nn.Module:
        return backbone

    def average(self, gradients: Iterable[Tensor]) -> None:
        """FSDP has done it."""


def spread_out(
    module: TrainingModule,
    average: nn.Module | None,
    ranks: Ranks,
    device: torch.device,
    precision: torch.dtype,
    in_parts: bool,
) -> None:
    """Spread the training of `module`, and the weights averaged of it, over the processes; nothing to do for one.

    Args:
        average: the model with the averaged weights, if there is one.
        in_parts: keep only a part of the weights on each process (FSDP), instead of copies (DDP).
    Raises:
        ValueError: the processes begin with different weights; or parts are asked for in float16, or of a torch without FSDP2.
    """
    if ranks.size == 1:
        return
    if in_parts and precision is torch.float16:
        raise UserError(
            "SOLVER.FSDP: the gradient scaler of fp16 does not see all parts; set SOLVER.PRECISION bf16 or fp32, or FSDP False"
        )
    check_same(module, ranks)
    for model in (module.model, *([average] if average is not None else [])):
        synchronise_norms(model.backbone, device)  # type: ignore[arg-type]
    module.spread = Shards(ranks) if in_parts else Copies(ranks)
    for whole in (module.model, module.loss, average) if in_parts else ():
        if whole is not None:
            shard(whole, device, ranks)


def shard(module: nn.Module, device: torch.device, ranks: Ranks) -> None:
    """Leave this process its parts of the parameters of a model, or of anything else as a whole.

    Raises:
        ValueError: this torch has no FSDP2.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UserError(f"SOLVER.FSDP: needs torch 2.6 or newer, this is {torch.__version__}") from error
    mesh = init_device_mesh(device.type, (ranks.size,))
    for part in _parts(module):
        if next(part.parameters(), None) is not None:
            fully_shard(part, mesh=mesh)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what is put together as one, inner parts first."""
    if not isinstance(module, ReidModel):
        yield module
        return
    for child in module.backbone.net.children():
        if isinstance(child, nn.Sequential):  # the blocks of a ViT, the stages of a CNN
            yield from child
    yield from (module.backbone, module.neck)


def gather_state(state: Any, ranks: Ranks) -> Any:
    """Return a state dict, nested as it may be, with whole tensors on the CPU; those that were parts only on the first process.

    Collective where there are parts; else nothing is copied.
    """
    if isinstance(state, dict):
        return {key: gather_state(value, ranks) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_state(value, ranks) for value in state)
    if _is_part(state):
        whole = state.full_tensor()
        return whole.cpu() if ranks.is_first else None
    return state


def part_state(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return whole tensors, by name, as the parts that `module` has of them."""
    own = module.state_dict()
    return {name: _like(value, own.get(name)) for name, value in state.items()}


def part_optimizer(optimizer: Optimizer) -> None:
    """Replace whole tensors that were loaded into an optimizer by parts, like their parameters."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = _like(value, parameter)


def whole_model(model: ReidModel, device: torch.device) -> ReidModel:
    """Return `model` itself, or where it is in parts a copy with whole weights, on every process; for evaluation."""
    parameters = list(model.parameters())
    if not any(map(_is_part, parameters)):
        return model
    whole = ReidModel(model.spec).to(device)
    state = model.state_dict()
    whole.load_state_dict({name: value.full_tensor() if _is_part(value) else value for name, value in state.items()})
    return whole.eval().requires_grad_(False)


def _is_part(value: Any) -> bool:
    return hasattr(value, "full_tensor")


def _like(value: Tensor, part: Any) -> Tensor:
    if not _is_part(part) or _is_part(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(part.device), part.device_mesh, part.placements)
