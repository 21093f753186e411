"""Batch norms inside a backbone that take their statistics of all processes' images, on any device."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class GlobalBatchNorm(_BatchNorm):
    """A batch norm over the batches of all processes, in training mode: what `nn.SyncBatchNorm` is on GPUs, which are all it knows.

    Args:
        norm: the batch norm whose parameters and running statistics it takes over, and the dropout and activation that timm's
            have behind the norm.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(self, name, buffer)
        for name, child in norm.named_children():
            self.add_module(name, child)
        self.train(norm.training)

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features (B, C, ...)."""
        if self.training or not self.track_running_stats:
            features = self._by_batch(features)
        else:
            features = F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        for child in self.children():
            features = child(features)
        return features

    def _by_batch(self, features: Tensor) -> Tensor:
        values = features.float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = sum_over_ranks(values.sum(axes)) / count  # (C,)
        centred = values - _as_channels(mean, values)
        variance = sum_over_ranks(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach(), count)
        normal = centred * _as_channels((variance + self.eps).rsqrt(), values)
        if self.weight is not None:
            normal = normal * _as_channels(self.weight, values) + _as_channels(self.bias, values)
        return normal.to(features.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        momentum = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)  # type: ignore[arg-type]
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(None, gradients[0])


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of the processes' tensors; every process has a use for it, so its gradients add up, too."""
    return _Sum.apply(tensor)  # type: ignore[no-any-return]


def synchronise_norms(module: nn.Module, device: torch.device) -> None:
    """Replace the batch norms in `module` by those that see all processes' images; names in state dicts stay.

    On a GPU these are torch's, whose kernels are faster.
    """
    for name, child in list(module.named_children()):
        if not isinstance(child, _BatchNorm):
            synchronise_norms(child, device)
        elif device.type == "cuda":
            setattr(module, name, convert_sync_batchnorm(child))
        else:
            setattr(module, name, GlobalBatchNorm(child))
