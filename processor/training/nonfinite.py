"""Losses that are not numbers: noticed, and left out where that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """A batch that was trained on: its place in the run (both counted from 1), loss terms and positions of its records."""

    epoch: int
    iteration: int
    terms: dict[str, Tensor]
    positions: Tensor

    def __str__(self) -> str:
        """Name the place and the terms; waits for their device."""
        terms = ", ".join(f"{name} {float(term):g}" for name, term in self.terms.items())
        return f"epoch {self.epoch}, iteration {self.iteration}: {terms}"


class NonFiniteLoss(RuntimeError):
    """A loss term is NaN or infinite; the message names the step, the terms and the batch's files."""


REMEDY = (
    "Earlier checkpoints are intact. Lower SOLVER.BASE_LR, set SOLVER.GRAD_CLIP (e.g. 5), or use SOLVER.PRECISION fp32, then "
    "--resume"
)


class FiniteWatch:
    """Tells of every batch whether its loss is a number, before the weights are changed by it.

    The loss is copied to the host as soon as it is known. On a GPU asking for it waits for the forward pass, while the
    backward pass goes on: the queue never runs dry. Gradients that overflow although the loss is a number are not seen
    (in fp16 the gradient scaler sees them). Where no batch may be left out nothing is copied and nothing waits.

    Args:
        module: whose buffers (batch-norm statistics) go back to what they were before a bad batch.
        active: whether bad batches are to be left out.
    """

    def __init__(self, module: nn.Module, active: bool) -> None:
        self.module, self.active = module, active
        self._reads: list[Callable[[], float]] = []
        self._buffers: list[Tensor] = []

    def begin(self) -> None:
        """Call before the forward pass of a batch."""
        if self.active:
            self._reads = []
            self._buffers = [buffer.clone() for buffer in self.module.buffers()]

    def see(self, loss: Tensor) -> Tensor:
        """Return the loss () as it is, on its way to the backward pass."""
        if self.active:
            self._reads.append(_read_later(loss.detach()))
        return loss

    def is_good(self) -> bool:
        """Tell whether the batch's loss is a number; if not, put the buffers back."""
        if all(torch.isfinite(torch.tensor(read())) for read in self._reads):
            return True
        with torch.no_grad():
            for buffer, before in zip(self.module.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
        return False


def _read_later(value: Tensor) -> Callable[[], float]:
    """Start to copy a scalar to the host; the function returned waits for it."""
    if value.device.type != "cuda":
        return value.item
    copy = torch.empty((), dtype=value.dtype, pin_memory=True)
    copy.copy_(value, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def read() -> float:
        done.synchronize()
        return float(copy)

    return read


def are_finite(values: Sequence[Tensor]) -> bool:
    """Tell whether all numbers of all tensors are finite; waits for their device once."""
    if not values:
        return True
    return bool(torch.stack([torch.isfinite(value).all() for value in values]).all())
