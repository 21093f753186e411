"""Averages of a model's weights over the training: exponential, or the plain mean from an epoch on."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

# Not swa_utils.AveragedModel: it averages the counters of batch norms, copies at the first update (our EMA mixes from the start),
# and its names ("module.…", "n_averaged") are not those in a last.pth.
AverageTensors = Callable[[list[Tensor], list[Tensor], int], None]  # averages, current values, how many were averaged


class Average(ABC):
    """A copy of a model, in evaluation mode, with averaged weights.

    Running statistics are averaged too, so that they fit the averaged weights; counters are copied.

    Args:
        model: the model being trained; it is read at each `update`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.source = model
        self.updates = 0
        self._copy = copy.deepcopy(model).eval().requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The model with the averaged weights."""
        return self._copy

    def start_epoch(self, epoch: int) -> None:  # noqa: B027 - most averages are the same in every epoch
        """Set the epoch (from 1) of the next updates."""

    @abstractmethod
    def update(self) -> None:
        """Add the model's weights to the average; called after every step."""

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return {"model": self._copy.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict()`."""
        self._copy.load_state_dict(state["model"])
        self.updates = state["updates"]

    @torch.no_grad()
    def _mix(self, average: AverageTensors) -> None:
        """Average all floating-point tensors of one dtype in one call; copy the others."""
        pairs = list(zip(tensors_of(self._copy), tensors_of(self.source), strict=True))
        kinds: dict[tuple[torch.dtype, bool], tuple[list[Tensor], list[Tensor]]] = {}
        for ours, theirs in pairs:
            if ours.is_floating_point():
                averages, current = kinds.setdefault((ours.dtype, hasattr(ours, "full_tensor")), ([], []))
                averages.append(ours)
                current.append(theirs)
            else:
                ours.copy_(theirs)
        for averages, current in kinds.values():
            average(averages, current, self.updates)


class EMA(Average):
    """Exponential moving average.

    The decay starts small, min(decay, (1 + n) / (10 + n)) at step n, so that the random initial weights leave the average
    soon.

    Args:
        decay: share of the old average that each step keeps, e.g. 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    def update(self) -> None:
        """Move the average a step towards the model."""
        self.updates += 1
        self._mix(get_ema_multi_avg_fn(min(self.decay, (1 + self.updates) / (10 + self.updates))))


class SWA(Average):
    """The mean of the weights after every step from epoch `start` on (Izmailov et al., UAI 2018; Polyak & Juditsky, 1992).

    Before that `model` has the weights of the model being trained. Running statistics of batch norms are averaged like the
    weights; they are not computed anew.

    Args:
        start: first epoch that counts, from 1.
    """

    def __init__(self, model: nn.Module, start: int) -> None:
        super().__init__(model)
        self.start = start
        self._epoch = 0

    @property
    def model(self) -> nn.Module:
        """The model with the averaged weights, or with the current ones before the first update."""
        if self.updates == 0:
            self._mix(copy_tensors)
        return self._copy

    def start_epoch(self, epoch: int) -> None:
        """Set the epoch (from 1) of the next updates."""
        self._epoch = epoch

    def update(self) -> None:
        """Add the weights to the mean, from epoch `start` on."""
        if self._epoch >= self.start:
            self._mix(get_swa_multi_avg_fn() if self.updates else copy_tensors)
            self.updates += 1


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Return parameters and buffers, in the order of the architecture."""
    return [*model.parameters(), *model.buffers()]


def copy_tensors(averages: list[Tensor], current: list[Tensor], num_averaged: int) -> None:
    """Copy the values: the mean of one."""
    for average, value in zip(averages, current, strict=True):
        average.copy_(value)
