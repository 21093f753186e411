"""Training on several processes: the backbone is copied, the neck and the loss see the whole batch.

Each process embeds its share of the batch. The embeddings are then gathered, with their gradients, and every process
computes the same neck, the same loss and the same gradients of both on the whole batch: statistics, mining and learning
are those of one process with that batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ...common.errors import UserError
from ..training.training_module import Alone
from .process_group import Ranks, local_rank

# The processes' buffers are equal as it is. Newer versions of torch have another word for it.
_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW else "broadcast_buffers": False}


class Copies(Alone):
    """Every process has the whole backbone; gradients are averaged (DDP) while the backward pass goes on.

    Where parameters are frozen or thawed between passes, it is wrapped anew.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._wrapped: DistributedDataParallel | None = None
        self._trainable: list[bool] = []

    def callable(self, backbone: nn.Module) -> nn.Module:
        trainable = [parameter.requires_grad for parameter in backbone.parameters()]
        if trainable != self._trainable:
            self._wrapped = self._wrap(backbone) if any(trainable) else None
            self._trainable = trainable
        return backbone if self._wrapped is None else self._wrapped

    def _wrap(self, backbone: nn.Module) -> DistributedDataParallel:
        return DistributedDataParallel(backbone, gradient_as_bucket_view=True, **KEEP_BUFFERS)

    def gather(self, tensor: Tensor) -> Tensor:
        return gather(tensor, self.ranks)

    def average(self, gradients: Iterable[Tensor]) -> None:
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= self.ranks.size

    def no_sync(self) -> AbstractContextManager:
        return nullcontext() if self._wrapped is None else self._wrapped.no_sync()


def gather(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return the (size * B, ...) rows of all processes, by rank, of this process' (B, ...); B is the same on all.

    The gradient that comes back is this process' rows of the whole batch's gradient, times the number of processes, since
    DDP and FSDP average what the processes make of it. So it needs no communication, as long as all processes compute the
    same of what was gathered.
    """
    return _Gather.apply(tensor, ranks) if tensor.requires_grad else _all_rows(tensor, ranks)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        context.ranks = ranks
        return _all_rows(tensor, ranks)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ranks = context.ranks
        return gradients[0].chunk(ranks.size)[ranks.rank] * ranks.size, None


def _all_rows(tensor: Tensor, ranks: Ranks) -> Tensor:
    rows = tensor.new_empty(ranks.size * len(tensor), *tensor.shape[1:])
    dist.all_gather_into_tensor(rows, tensor.contiguous())
    return rows


def device_of(ranks: Ranks, device: torch.device) -> torch.device:
    """Return the device of this process: of several GPUs the one with its number.

    Raises:
        ValueError: the machine has fewer GPUs than processes, or the processes cannot talk about tensors on `device`.
    """
    if ranks.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UserError(f"MODEL.DEVICE: {ranks.size} processes compute on cuda or cpu, not on {device.type}; use cpu")
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"torchrun --nproc_per_node: process {local_rank()} of this machine needs a GPU of its own, it has "
            f"{torch.cuda.device_count()}; start as many processes, or use MODEL.DEVICE cpu"
        )
    return torch.device("cuda", local_rank())


def seed_rank(seed: int, ranks: Ranks, step: int = 0) -> None:
    """Seed dropout and the like, differently on every process; the first, at step 0, keeps what `seed` has led to."""
    if ranks.is_first and step == 0:
        return
    torch.manual_seed(int(np.random.SeedSequence((seed, ranks.rank, step)).generate_state(1, np.uint64)[0]))
