"""Where the time of a training step goes."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from ...common.errors import UserError
from .session import Learner
from .trainer import Trainer

PHASES = ("data", "forward", "backward", "optimizer", "rest")


@dataclass(frozen=True)
class StepProfile:
    """Seconds of the average step, by phase, and the speed of undisturbed steps.

    Args:
        seconds: per phase: data = waiting for the next batch (augmentation included); forward = backbone, neck, losses;
            backward (with MICRO_BATCH also its repeated forward passes); optimizer = gradient clipping, update, EMA;
            rest = learning rates, running means, the loop.
        images_per_second: of steps without the waits for the device that measuring the phases needs.
        steps: how many were measured, in each of the two ways.
        peak_memory: bytes allocated on a GPU at most; None elsewhere.
    """

    seconds: dict[str, float]
    images_per_second: float
    steps: int
    peak_memory: int | None = None

    @property
    def waiting(self) -> float:
        """Share of the step spent waiting for data."""
        return self.seconds["data"] / sum(self.seconds.values())

    def table(self) -> str:
        """Return the numbers for people."""
        total = sum(self.seconds.values())
        rows = [f"{'phase':<10}{'ms':>10}{'share':>9}"]
        rows += [f"{name:<10}{1e3 * time_:>10.1f}{time_ / total:>9.1%}" for name, time_ in self.seconds.items()]
        rows += [
            f"{'step':<10}{1e3 * total:>10.1f}   mean of {self.steps} steps, the device waited for after each phase"
        ]
        rows += [f"waiting for data: {self.waiting:.1%} of the step; {self.images_per_second:.1f} images/s undisturbed"]
        if self.peak_memory is not None:
            rows += [f"peak memory: {self.peak_memory / 2**30:.2f} GiB"]
        return "\n".join(rows)


def profile(cfg: CfgNode, steps: int, warmup: int = 5) -> StepProfile:
    """Train for a while and measure; no run folder is made or touched.

    Args:
        steps: measured twice over: as in training, then phase by phase.
        warmup: steps before that, which set up memory, kernels and threads.
    Raises:
        ValueError: steps is less than 1, several processes were started, or config and data do not fit together.
    """
    if steps < 1:
        raise UserError(f"--profile: {steps} steps cannot be measured; give 1 or more, e.g. --profile 20")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--profile: measures one process; start it with python, not with torchrun")
    learner = Learner(cfg)
    learner.compile()
    trainer, epoch = (
        learner.trainer,
        cfg.SOLVER.MAX_EPOCHS,
    )  # the last one, in which nothing waits to be thawed or averaged
    trainer.schedule.apply(trainer.optimizers, epoch, 0)
    trainer.module.train()
    if trainer.average is not None:
        trainer.average.start_epoch(epoch)
    batches = _endless(trainer)
    _train(trainer, batches, warmup, epoch)
    start = time.perf_counter()
    images = _train(trainer, batches, steps, epoch)
    speed = images / (time.perf_counter() - start)
    clock = Clock(trainer.device)
    with_clock(trainer, clock)
    for iteration in range(steps):
        clock.lap("rest")
        batch = next(batches)
        clock.lap("data")
        _iterate(trainer, batch, epoch, iteration)
    clock.lap("rest")
    seconds = {name: clock.seconds[name] / steps for name in PHASES}
    peak = torch.cuda.max_memory_allocated(trainer.device) if trainer.device.type == "cuda" else None
    return StepProfile(seconds, speed, steps, peak)


def _endless(trainer: Trainer) -> Iterator[Any]:
    """Yield the batches of one epoch after the other."""
    epoch = 0
    while True:
        epoch += 1
        trainer.loader.set_epoch(epoch, 0)
        yield from trainer.loader


def _train(trainer: Trainer, batches: Iterator[Any], steps: int, epoch: int) -> int:
    """Train some steps; return the number of images once the device is done with them."""
    images = 0
    for iteration in range(steps):
        batch = next(batches)
        images += len(batch.labels)
        _iterate(trainer, batch, epoch, iteration)
    wait_for(trainer.device)
    return images


def _iterate(trainer: Trainer, batch: Any, epoch: int, iteration: int) -> None:
    """One iteration as `Trainer.train_epoch` does it, with a step for each group of batches."""
    trainer.schedule.apply(trainer.optimizers, epoch, iteration % len(trainer.loader))
    do_step = (iteration + 1) % trainer.accumulate == 0
    terms, stats = trainer.step(batch, do_step, trainer.accumulate)
    trainer.progress.means.add({**terms, **stats})


def wait_for(device: torch.device) -> None:
    """Return once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Clock:
    """Adds up the time since the last call under a name, once the device has caught up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = 0.0

    def lap(self, name: str) -> None:
        """Book the time since the last lap under `name`; the first lap only starts the clock."""
        wait_for(self.device)
        now = time.perf_counter()
        if self._last:
            self.seconds[name] += now - self._last
        self._last = now


def with_clock(trainer: Trainer, clock: Clock) -> None:
    """Let the trainer's passes and updates tell the clock when they end."""
    passes, update = trainer.passes, trainer.update

    def timed_passes(module: Any, batch: Any, autocast: Any, scale: Callable[[Tensor], Tensor]) -> Any:
        def between(loss: Tensor) -> Tensor:
            clock.lap("forward")
            return scale(loss)

        clock.lap("rest")
        losses = passes(module, batch, autocast, between)
        clock.lap("backward")
        return losses

    def timed_update() -> None:
        clock.lap("rest")
        update()
        clock.lap("optimizer")

    trainer.passes = timed_passes
    trainer.update = timed_update  # type: ignore[method-assign]
