"""Measurement of the time that each phase of a training step takes."""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from yacs.config import CfgNode

from ...common.errors import UserError
from .progress import Progress
from .run import build_run_options, build_session
from .trainer import Trainer

PHASES = ("data", "forward", "backward", "optimizer")  # and the rest


@dataclass(frozen=True)
class StepProfile:
    """Mean seconds of a step by phase, and the speed of undisturbed steps.

    Args:
        seconds: per phase: data = waiting for the next batch (augmentation included); forward = backbone, neck, losses;
            backward (with MICRO_BATCH also its repeated forward passes); optimizer = gradient clipping, update, EMA;
            rest = learning rates, running means, the loop.
        images_per_second: speed of steps without the waits for the device between phases.
        steps: steps measured in each of the two ways.
        peak_memory: peak of bytes allocated on a GPU; None elsewhere.
    """

    seconds: dict[str, float]
    images_per_second: float
    steps: int
    peak_memory: int | None = None

    @property
    def waiting(self) -> float:
        """Fraction of the step spent waiting for data."""
        return self.seconds["data"] / sum(self.seconds.values())

    def table(self) -> str:
        """Return a text table."""
        total = sum(self.seconds.values())
        rows = [f"{'phase':<10}{'ms':>10}{'share':>9}"]
        rows += [f"{name:<10}{1e3 * time_:>10.1f}{time_ / total:>9.1%}" for name, time_ in self.seconds.items()]
        about = f"mean of {self.steps} steps, the device waited for after each phase"
        rows += [f"{'step':<10}{1e3 * total:>10.1f}   {about}"]
        rows += [f"waiting for data: {self.waiting:.1%} of the step; {self.images_per_second:.1f} images/s undisturbed"]
        if self.peak_memory is not None:
            rows += [f"peak memory: {self.peak_memory / 2**30:.2f} GiB"]
        return "\n".join(rows)


def profile(cfg: CfgNode, steps: int, warmup: int = 5) -> StepProfile:
    """Train for a while and measure; no run folder is made or touched.

    Args:
        steps: batches measured twice: as in training, then phase by phase.
        warmup: batches before that, which set up memory, kernels and threads.
    Raises:
        UserError: steps is less than 1, several processes were started, or config and data do not fit together.
    """
    if steps < 1:
        raise UserError(f"--profile: {steps} steps cannot be measured; give 1 or more, e.g. --profile 20")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--profile: measures one process; start it with python, not with torchrun")
    session = build_session(cfg)
    session.compile()
    trainer, device = session.trainer, session.device
    last = build_run_options(cfg).num_epochs  # in the last epoch nothing waits to be thawed or averaged
    iterations = _repeat(trainer, last)
    _time(iterations, warmup, device)
    speed = steps * session.batch_size / _time(iterations, steps, device)
    trainer.phase = clock = Clock(device)
    total = _time(iterations, steps, device)
    seconds = {name: clock.seconds[name] / steps for name in PHASES}
    seconds["rest"] = total / steps - sum(seconds.values())
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return StepProfile(seconds, speed, steps, peak)


def _repeat(trainer: Trainer, epoch: int) -> Iterator[bool]:
    """Train the same epoch again and again, one batch at a time."""
    while True:
        yield from trainer.iterations(epoch)
        trainer.progress = Progress()


def _time(iterations: Iterator[bool], number: int, device: torch.device) -> float:
    """Train `number` batches; return the seconds until the device has finished them."""
    wait_for(device)
    start = time.perf_counter()
    for _ in itertools.islice(iterations, number):
        pass
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Return once the device has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Clock:
    """Adds up the time of each phase, until the device has finished its work; a `Trainer.phase`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the body to the phase `name`."""
        wait_for(self.device)
        start = time.perf_counter()
        yield
        wait_for(self.device)
        self.seconds[name] += time.perf_counter() - start
