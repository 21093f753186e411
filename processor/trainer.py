"""The training loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from .checkpoint import random_state, restore_random_state
from .device import autocast


class NonFiniteLoss(RuntimeError):
    """A loss term is NaN or infinite; the message names the step, the terms and the batch's files."""


class Trainer:
    """Trains a module epoch by epoch.

    Args:
        module: batch -> (terms to add up, stats to watch).
        optimizers: all are stepped together.
        schedule: its `apply(optimizers, epoch, iteration)` sets the learning rates.
        loader: `set_epoch(epoch)`, a length, and batches on the device.
        paths: file names of the training records, for messages.
        ema: averaged weights to update after every step, or None.
        accumulate: batches per step.
        grad_clip: largest gradient norm; 0 = none.
        log_period: iterations between reads of the loss values, each of which waits for the device.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[Optimizer],
        schedule: Any,
        loader: Any,
        *,
        device: torch.device,
        precision: torch.dtype,
        paths: Sequence[str] = (),
        ema: Any = None,
        accumulate: int = 1,
        grad_clip: float = 0.0,
        log_period: int = 50,
    ) -> None:
        self.module = module
        self.optimizers = list(optimizers)
        self.schedule = schedule
        self.loader = loader
        self.device = device
        self.precision = precision
        self.paths = paths
        self.ema = ema
        self.accumulate = accumulate
        self.grad_clip = grad_clip
        self.log_period = log_period
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Train one epoch (counted from 1); return the means of its terms and stats, and images per second."""
        self.module.train()
        self.loader.set_epoch(epoch)
        means, start, images = RunningMeans(), time.perf_counter(), 0
        for iteration, batch in enumerate(self.loader):
            self.schedule.apply(self.optimizers, epoch, iteration)
            is_last = iteration + 1 == len(self.loader)
            do_step = is_last or (iteration + 1) % self.accumulate == 0
            terms, stats = self.step(batch, do_step, self._group_size(iteration))
            images += len(batch.labels)
            means.add({**terms, **stats, "loss": torch.stack(list(terms.values())).sum()})
            shows = is_last or iteration % self.log_period == 0
            if shows or self.device.type == "cpu":  # on a GPU each look waits for it
                self._check_finite(terms, batch, epoch, iteration)
            if shows:
                self._show(bar, means, images / (time.perf_counter() - start))
            bar.update()
        return {**means.read(), "images_per_second": images / (time.perf_counter() - start)}

    def _group_size(self, iteration: int) -> int:
        """Return how many batches share the step of this one; the last group of an epoch may be short."""
        first = iteration - iteration % self.accumulate
        return min(self.accumulate, len(self.loader) - first)

    def step(
        self, batch: Any, do_step: bool = True, group_size: int = 1
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Back-propagate one batch of a group and, if `do_step`, update the weights; return (terms, stats), detached."""
        with autocast(self.device, self.precision):
            terms, stats = self.module(batch)
        self.scaler.scale(sum(terms.values()) / group_size).backward()
        if do_step:
            self._update()
        return {name: term.detach() for name, term in terms.items()}, stats

    def _update(self) -> None:
        if self.grad_clip:
            main = self.optimizers[0]  # the centres of the center loss have their own, unweighted gradient
            self.scaler.unscale_(main)
            nn.utils.clip_grad_norm_([p for group in main.param_groups for p in group["params"]], self.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()

    def _check_finite(self, terms: dict[str, Tensor], batch: Any, epoch: int, iteration: int) -> None:
        if torch.isfinite(torch.stack(list(terms.values()))).all():
            return
        values = ", ".join(f"{name} {float(term):g}" for name, term in terms.items())
        files = [self.paths[i] for i in batch.index.tolist()[:8]] if self.paths else []
        seen = "at" if self.device.type == "cpu" else f"within the {self.log_period} iterations before"
        raise NonFiniteLoss(
            f"the loss is not a number {seen} epoch {epoch}, iteration {iteration + 1}: {values}; this batch begins with "
            f"{', '.join(files) or 'unnamed images'}. Earlier checkpoints are intact. Lower SOLVER.BASE_LR, set "
            "SOLVER.GRAD_CLIP (e.g. 5), or use SOLVER.PRECISION fp32, then --resume"
        )

    def _show(self, bar: tqdm, means: RunningMeans, speed: float) -> None:
        numbers = {name: f"{value:.3g}" for name, value in means.read().items()}
        bar.set_postfix({**numbers, "img/s": f"{speed:.0f}"})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while training, as tensors and plain types."""
        return {
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict()`.

        Raises:
            ValueError: the state is of another model, loss or optimizer.
        """
        try:
            self.module.load_state_dict(state["module"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                load_optimizer(optimizer, saved)
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"--resume: the checkpoint does not fit this config's model, loss or optimizer: {error}"
            ) from error
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        restore_random_state(state["random"])


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore momentum and the like; the rates and decays stay those of the config, which may have changed."""
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)


class RunningMeans:
    """Means of named scalars, summed on their device: reading them is what waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: dict[str, Tensor]) -> None:
        """Add one value per name."""
        for name, value in values.items():
            self._sums[name] = (
                self._sums[name] + value.detach().float() if name in self._sums else value.detach().float()
            )
            self._counts[name] += 1

    def read(self) -> dict[str, float]:
        """Return the mean per name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}
