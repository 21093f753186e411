"""Learning rate as a function of the progress of training, without state."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch.optim import Optimizer


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a decay; `apply` writes the rates into optimizers whose groups have an `lr_factor`.

    A group's rate rises from `warmup_lr` to its peak, `base_lr * lr_factor`, and falls towards `min_lr`. Both ends are the
    same for all groups, as in TransReID; a group's `lr_scale` multiplies the whole curve. A group with `frozen_epochs` gets
    no gradients in that many first epochs.

    Args:
        base_lr: peak rate of a group with factor 1.
        decay: progress in epochs -> position between `min_lr` (0) and the peak (1).
        warmup_epochs, warmup_lr: length of the warm-up, and its first rate.
        min_lr: rate at position 0.
        iters_per_epoch: length of an epoch; None changes the rate once per epoch only.
    """

    base_lr: float
    decay: Callable[[float], float]
    warmup_epochs: int = 0
    warmup_lr: float = 0.0
    min_lr: float = 0.0
    iters_per_epoch: int | None = None

    def lr(self, progress: float, lr_factor: float = 1.0) -> float:
        """Return the rate after `progress` epochs, which may be a fraction, of a group with `lr_factor`."""
        peak = self.base_lr * lr_factor
        if progress < self.warmup_epochs:
            return self.warmup_lr + progress / self.warmup_epochs * (peak - self.warmup_lr)
        return self.min_lr + self.decay(progress) * (peak - self.min_lr)

    def progress(self, epoch: int, iteration: int) -> float:
        """Return the epochs done at the end of `iteration` (from 0) of `epoch` (from 1); per epoch: `epoch` itself."""
        if self.iters_per_epoch is None:
            return epoch
        return epoch - 1 + (iteration + 1) / self.iters_per_epoch

    def apply(self, optimizers: Iterable[Optimizer], epoch: int, iteration: int) -> None:
        """Set the rates for `iteration` (from 0) of `epoch` (from 1), and freeze or thaw groups with `frozen_epochs`."""
        progress = self.progress(epoch, iteration)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                if "lr_factor" in group:
                    group["lr"] = group.get("lr_scale", 1.0) * self.lr(progress, group["lr_factor"])
                if "frozen_epochs" in group:
                    for parameter in group["params"]:  # optimizers skip parameters without a gradient
                        parameter.requires_grad_(epoch > group["frozen_epochs"])


def cosine(max_epochs: int) -> Callable[[float], float]:
    """Half a cosine from 1 at epoch 0 to 0 at `max_epochs` (Loshchilov & Hutter, ICLR 2017); the warm-up does not shift it."""
    return lambda progress: 0.5 * (1 + math.cos(math.pi * min(progress / max_epochs, 1.0)))


def multistep(steps: Iterable[int], gamma: float) -> Callable[[float], float]:
    """Multiply by `gamma` after each of the epochs `steps`."""
    steps = sorted(steps)
    return lambda progress: gamma ** bisect_left(steps, progress)
