"""Training on several ranks: the backbone is replicated (DDP), neck and loss see the whole batch.

Each rank embeds its share of the batch. The embeddings are gathered with their gradients, and every rank computes neck and
loss, with the gradients of both, on the whole batch: statistics, mining and learning equal those of one process.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ...common.errors import UserError
from ..training.training_module import SingleProcess
from .process_group import Ranks, local_rank

# The buffers of all ranks are equal without a broadcast. Newer versions of torch renamed the argument.
_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
OPTIONS: dict[str, Any] = {
    "forward_sync_buffers" if _NEW else "broadcast_buffers": False,
    "gradient_as_bucket_view": True,
}


class ReplicatedBackbone(SingleProcess):
    """Every rank has the whole backbone; DDP averages its gradients during the backward pass.

    DDP wraps the backbone again when parameters are frozen or thawed between passes.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._wrapped: DistributedDataParallel | None = None
        self._trainable: list[bool] = []

    def callable(self, backbone: nn.Module) -> nn.Module:
        trainable = [parameter.requires_grad for parameter in backbone.parameters()]
        if trainable != self._trainable:
            self._wrapped = DistributedDataParallel(backbone, **OPTIONS) if any(trainable) else None
            self._trainable = trainable
        return backbone if self._wrapped is None else self._wrapped

    def gather(self, tensor: Tensor) -> Tensor:
        return gather(tensor, self.ranks)

    def average(self, gradients: Iterable[Tensor]) -> None:
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= self.ranks.size

    def no_sync(self) -> AbstractContextManager:
        return nullcontext() if self._wrapped is None else self._wrapped.no_sync()


def gather(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return the (size * B, ...) rows of all ranks, by rank, from this rank's (B, ...); B is equal on all.

    The backward pass returns this rank's rows of the whole batch's gradient, times the number of ranks, because DDP and FSDP
    average the gradients of the ranks. It needs no communication if all ranks compute the same from the gathered rows.
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


def sync_batch_norms(backbone: nn.Module, device: torch.device) -> None:
    """Compute the statistics of the backbone's batch norms over all ranks (`nn.SyncBatchNorm`); names in state dicts stay.

    Raises:
        UserError: the backbone has batch norms and the ranks are on the CPU, which has no such layer.
    """
    norms = [name for name, part in backbone.named_modules() if isinstance(part, _BatchNorm)]
    if norms and device.type != "cuda":
        raise UserError(
            f"MODEL.NAME: the backbone has batch norms ({norms[0]}, {len(norms)} in all), which several processes synchronise "
            f"on GPUs only, not on {device.type}; start one process, or use GPUs (MODEL.DEVICE cuda)"
        )
    convert_sync_batchnorm(backbone)


def device_of(ranks: Ranks, device: torch.device) -> torch.device:
    """Return the device of this rank: `device`, or among several GPUs the one with the rank's number.

    Raises:
        UserError: the machine has fewer GPUs than ranks, or several ranks cannot use `device`.
    """
    if ranks.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UserError(f"MODEL.DEVICE: {ranks.size} processes compute on cuda or cpu, not on {device.type}; use cpu")
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"torchrun --nproc_per_node: process {local_rank()} of this machine needs its own GPU, the machine has "
            f"{torch.cuda.device_count()}; start as many processes, or use MODEL.DEVICE cpu"
        )
    return torch.device("cuda", local_rank())


def seed_rank(seed: int, ranks: Ranks, step: int = 0) -> None:
    """Seed dropout and stochastic depth, differently on every rank; rank 0 keeps its generators at step 0."""
    if ranks.is_first and step == 0:
        return
    torch.manual_seed(int(np.random.SeedSequence((seed, ranks.rank, step)).generate_state(1, np.uint64)[0]))
