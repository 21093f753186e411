"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class EMA:
    """A copy of `model`, in evaluation mode, that follows its weights slowly.

    Running statistics are averaged too, so that they fit the averaged weights. The decay starts small, min(decay,
    (1 + n) / (10 + n)) at step n, or the random initial weights would stay in the average for long.

    Args:
        model: the model being trained; it is read at each `update`.
        decay: share of the old average that each step keeps, e.g. 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.source = model
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average a step towards the model."""
        self.updates += 1
        step = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = self.source.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], step)
            else:
                average.copy_(current[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict()`."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]
