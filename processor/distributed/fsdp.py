"""FSDP2: every rank keeps a shard of the weights, gradients and optimizer states; for large backbones."""

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
from .ddp import ReplicatedBackbone, sync_batch_norms
from .process_group import Ranks


class ShardedBackbone(ReplicatedBackbone):
    """Every rank keeps its shard of each tensor; FSDP gathers the weights of a block while it computes.

    FSDP averages gradients after every backward pass, those of neck and loss as well.
    """

    def callable(self, backbone: nn.Module) -> nn.Module:
        return backbone

    def average(self, gradients: Iterable[Tensor]) -> None:
        """FSDP has averaged them."""


def distribute_training(
    module: TrainingModule,
    average: nn.Module | None,
    ranks: Ranks,
    device: torch.device,
    precision: torch.dtype,
    sharded: bool,
) -> None:
    """Distribute the training of `module`, and the model with averaged weights, over the ranks; does nothing for one.

    Args:
        average: the model with the averaged weights, if there is one.
        sharded: keep only a shard of the weights on each rank (FSDP), not a replica (DDP).
    Raises:
        UserError: the ranks start with different weights; the backbone has batch norms and the ranks are on the CPU; or shards
            in float16, or with a torch without FSDP2.
    """
    if ranks.size == 1:
        return
    if sharded and precision is torch.float16:
        raise UserError(
            "SOLVER.FSDP: the gradient scaler of fp16 does not see all shards; set SOLVER.PRECISION bf16 or fp32, or FSDP False"
        )
    models = [module.model, *([average] if average is not None else [])]
    for model in models:
        sync_batch_norms(model.backbone, device)  # type: ignore[arg-type]
    check_same(module, ranks)
    module.spread = ShardedBackbone(ranks) if sharded else ReplicatedBackbone(ranks)
    for whole in (*models, module.loss) if sharded else ():
        shard(whole, device, ranks)


def shard(module: nn.Module, device: torch.device, ranks: Ranks) -> None:
    """Keep only this rank's shard of the parameters: of a model block by block, of another module as one.

    Raises:
        UserError: this torch has no FSDP2.
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
    """Yield the modules that FSDP gathers as one, inner modules first."""
    if not isinstance(module, ReidModel):
        yield module
        return
    for child in module.backbone.net.children():
        if isinstance(child, nn.Sequential):  # the blocks of a ViT, the stages of a CNN
            yield from child
    yield from (module.backbone, module.neck, module.frame_scores)


# torch.distributed.checkpoint.state_dict does not resume exactly: reading an optimizer without states counts a step that was
# not taken (AdamW: step 1), and loading refuses, or gives such a state to, parameters that have none yet (SOLVER.HEAD_EPOCHS).


def gather_state(state: Any, ranks: Ranks) -> Any:
    """Return a nested state dict with whole tensors on the CPU; those that were sharded are None except on rank 0.

    Collective if there are shards; else nothing is copied.
    """
    if isinstance(state, dict):
        return {key: gather_state(value, ranks) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_state(value, ranks) for value in state)
    if _is_sharded(state):
        whole = state.full_tensor()
        return whole.cpu() if ranks.is_first else None
    return state


def shard_state(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return a state dict of whole tensors sharded like the state dict of `module`."""
    own = module.state_dict()
    return {name: _shard_like(value, own.get(name)) for name, value in state.items()}


def shard_optimizer(optimizer: Optimizer) -> None:
    """Shard whole tensors that an optimizer has loaded, like their parameters."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = _shard_like(value, parameter)


def whole_model(model: ReidModel, device: torch.device) -> ReidModel:
    """Return `model` itself, or if it is sharded a copy with whole weights, on every rank; for evaluation."""
    parameters = list(model.parameters())
    if not any(map(_is_sharded, parameters)):
        return model
    whole = ReidModel(model.spec).to(device)
    state = model.state_dict()
    whole.load_state_dict({name: value.full_tensor() if _is_sharded(value) else value for name, value in state.items()})
    return whole.eval().requires_grad_(False)


def _is_sharded(value: Any) -> bool:
    return hasattr(value, "full_tensor")


def _shard_like(value: Tensor, part: Any) -> Tensor:
    if not _is_sharded(part) or _is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor  # torch.distributed is an optional part of torch

    return distribute_tensor(value.to(part.device), part.device_mesh, part.placements)
