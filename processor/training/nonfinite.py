"""Losses that are NaN or infinite: detected, and left out where that is allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from ..distributed.process_group import ALONE, Ranks
from .progress import RunningMeans

logger = logging.getLogger(__name__)
REMEDY = (
    "Earlier checkpoints are intact. Lower SOLVER.BASE_LR, set SOLVER.GRAD_CLIP (e.g. 5), or use SOLVER.PRECISION fp32, then "
    "--resume"
)


class TrainedBatch(NamedTuple):
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


class FiniteWatch:
    """Checks whether the losses are finite: of every batch before its step, or of many batches at once.

    Where batches may be left out, the loss is copied to the host as soon as it is computed. On a GPU reading it waits for the
    forward pass while the backward pass continues: the queue never runs dry. Gradients that overflow although the loss is
    finite are not seen (in fp16 the gradient scaler sees them). Where no batch may be left out nothing is copied and
    nothing waits; `check` reads the losses later.

    Args:
        module: its buffers (batch-norm statistics) are restored after a bad batch.
        num_allowed: batches of the run that may be left out.
        paths: file names of the training records, for messages.
        ranks: decide together.

    Attributes:
        is_good, is_group_bad: the last batch had a finite loss; a batch since the last step had none.
    """

    def __init__(
        self, module: nn.Module, num_allowed: int = 0, paths: Sequence[str] = (), ranks: Ranks = ALONE
    ) -> None:
        self.module, self.num_allowed, self.paths, self.ranks = module, num_allowed, paths, ranks
        self.is_good, self.is_group_bad = True, False
        self._read: Callable[[], float] = float
        self._buffers: list[Tensor] = []
        self._unread: list[TrainedBatch] = []  # batches since the last check

    def begin(self) -> None:
        """Call before the forward pass of a batch."""
        if self.num_allowed:
            self._buffers = [buffer.clone() for buffer in self.module.buffers()]

    def see(self, loss: Tensor) -> Tensor:
        """Return the loss () unchanged."""
        if self.num_allowed:
            self._read = _read_later(loss.detach())
        return loss

    def judge(self) -> None:
        """Set `is_good`, the same on all ranks; restore the buffers after a bad batch."""
        if not self.num_allowed:
            return
        self.is_good = not self.ranks.any(not torch.isfinite(torch.tensor(self._read())))
        self.is_group_bad |= not self.is_good
        if not self.is_good:
            with torch.no_grad():
                for buffer, before in zip(self.module.buffers(), self._buffers, strict=True):
                    buffer.copy_(before)

    def end_group(self) -> None:
        """Call at the end of the batches that share a step."""
        self.is_group_bad = False

    def skip(self, batch: TrainedBatch, number: int) -> None:
        """Log a batch that was left out, the run's `number`-th; raise NonFiniteLoss if that is too many."""
        if number > self.num_allowed:
            raise NonFiniteLoss(
                f"{number} batches had a loss that is not a number, SOLVER.SKIP_NONFINITE allows {self.num_allowed}; "
                f"the last at {batch}; {self._files(batch)}. {REMEDY}"
            )
        logger.warning(
            "left out a batch (%d of %d allowed), its loss is not a number: %s; %s",
            *(number, self.num_allowed, batch, self._files(batch)),
        )

    def remember(self, batch: TrainedBatch) -> None:
        """Keep a batch for the next `check`."""
        self._unread.append(batch)

    def check(self, means: RunningMeans) -> None:
        """Raise NonFiniteLoss if a loss since the last check, or a mean, is not finite; all ranks see the same losses."""
        batches, self._unread = self._unread, []
        if are_finite([*(term for batch in batches for term in batch.terms.values()), *means.sums()]):
            return
        bad = next((batch for batch in batches if not are_finite([*batch.terms.values()])), None)
        what = "the loss is not a number at" if bad else "the means of the epoch are not numbers, up to"
        batch = bad or batches[-1]
        raise NonFiniteLoss(f"{what} {batch}; {self._files(batch)}. {REMEDY}")

    def _files(self, batch: TrainedBatch) -> str:
        """Name all images of a batch, those of other ranks included. Collective."""
        if not self.paths:
            return "its images have no names"
        parts = self.ranks.gather_objects(
            [self.paths[position] for position in dict.fromkeys(batch.positions.tolist())]
        )
        return "its images: " + ", ".join(name for part in parts for name in part)


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


def check_weights(module: nn.Module, place: str) -> None:
    """Raise NonFiniteLoss, naming the `place` in the run, if a parameter or a floating-point buffer is not finite."""
    statistics = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if not are_finite([*module.parameters(), *statistics]):
        raise NonFiniteLoss(f"the weights are not numbers any more after {place}; nothing was saved. {REMEDY}")


def are_finite(values: Sequence[Tensor]) -> bool:
    """Return whether all numbers of all tensors are finite, on every rank if they are sharded; waits for their device once."""
    if not values:
        return True
    # DTensor has `to_local`; its own sums differ between releases of torch
    sharded = [value.to_local() for value in values if hasattr(value, "to_local")]
    whole = [value for value in values if not hasattr(value, "to_local")]
    finite = torch.stack([torch.isfinite(part).all() for part in (*sharded, *whole)]).all().int()
    if sharded:
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite)
