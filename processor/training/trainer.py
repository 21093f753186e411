"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import record_function
from tqdm import tqdm

from ...common.errors import UserError
from ...datasets import Batch, TrainLoader
from ...solver import Average, Schedule
from ..device import autocast
from ..distributed.consistency import fingerprint
from ..distributed.ddp import seed_rank
from ..distributed.fsdp import gather_state, shard_optimizer, shard_state
from ..runs.checkpoint import random_state, restore_random_state
from .micro_batches import MicroBatches
from .nonfinite import FiniteWatch, TrainedBatch, check_weights
from .progress import Progress
from .training_module import Losses, TrainingModule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepOptions:
    """How one step is computed.

    Args:
        device, precision: of the forward pass.
        micro_batch: images embedded at once; 0 = the whole batch.
        accumulate: batches per step.
        grad_clip: largest gradient norm; 0 = no clipping.
        skip_nonfinite: batches of the run that may be left out because their loss is NaN or infinite; 0 = stop at the first.
            Above 0 every loss is read before the weights change (`FiniteWatch` says what that waits for), and one such
            batch cancels the step of its group.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    micro_batch: int = 0
    accumulate: int = 1
    grad_clip: float = 0.0
    skip_nonfinite: int = 0


@dataclass(frozen=True)
class LogOptions:
    """What is shown while training.

    Args:
        period: iterations between reads of the loss values, each of which waits for the device.
        paths: file names of the training records, for messages.
    """

    period: int = 50
    paths: Sequence[str] = ()


class Trainer:
    """Trains a module epoch by epoch, on all ranks of `module.spread`.

    Args:
        optimizers: all are stepped together.
        average: averaged weights to update after every step, or None.

    Attributes:
        phase: makes the context of each phase of an iteration (data, forward, backward, optimizer) from its name; a clock can
            take its place.
    """

    def __init__(
        self,
        module: TrainingModule,
        optimizers: Sequence[Optimizer],
        schedule: Schedule,
        loader: TrainLoader,
        options: StepOptions,
        log: LogOptions = LogOptions(),
        average: Average | None = None,
    ) -> None:
        self.module, self.ranks = module, module.spread.ranks
        self.optimizers = list(optimizers)
        self.schedule = schedule
        self.loader = loader
        self.options = options
        self.log = log
        self.average = average
        self.passes = MicroBatches(options.micro_batch)
        self.watch = FiniteWatch(module, options.skip_nonfinite, log.paths, self.ranks)
        self.progress = Progress()
        self.phase: Callable[[str], AbstractContextManager] = record_function
        self.scaler = torch.amp.GradScaler(options.device.type, enabled=options.precision is torch.float16)

    def train_epoch(self, epoch: int, bar: tqdm, after_step: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train an epoch (counted from 1), or the rest of it; return the means of its terms and stats, and images per second.

        Args:
            after_step: called whenever the weights have changed and no gradients are pending: the moments at which
                `state_dict` is all there is to save. May raise.
        """
        for has_stepped in self.iterations(epoch):
            done = self.progress.batches
            shows = done == len(self.loader) or (done - 1) % self.log.period == 0
            if shows or not self._waits_for_losses:
                self.watch.check(self.progress.means)
            self._show(bar, shows)
            if has_stepped:
                after_step()
        return {**self.progress.means.read(), "images_per_second": self.progress.images_per_second}

    def iterations(self, epoch: int) -> Iterator[bool]:
        """Train an epoch (counted from 1), or the rest of it; yield after each batch whether the weights were due to change."""
        self.progress = self.progress.of_epoch(epoch)
        self.schedule.apply(self.optimizers, epoch, self.progress.batches)  # freezes and thaws parameters, and
        self.module.train()  # keeps frozen parts in evaluation mode
        if self.average is not None:
            self.average.start_epoch(epoch)
        self.loader.set_epoch(epoch, self.progress.batches)
        start, per_step = time.perf_counter() - self.progress.seconds, self.options.accumulate
        batches, length = iter(self.loader), len(self.loader)
        for iteration in range(self.progress.batches, length):
            with self.phase("data"):
                batch = next(batches)
            self.schedule.apply(self.optimizers, epoch, iteration)
            is_last = iteration + 1 == length or (iteration + 1) % per_step == 0
            self.step(batch, is_last, min(per_step, length - (iteration - iteration % per_step)))
            self.progress.seconds = time.perf_counter() - start
            yield is_last

    def step(self, batch: Batch, is_last: bool = True, group_size: int = 1) -> Losses:
        """Train on one batch; return its (terms, stats), detached.

        Args:
            is_last: the batch ends its group, whose gradients are averaged into one step.
            group_size: batches in the group.
        """
        with nullcontext() if is_last else self.module.no_sync():  # ranks exchange gradients once per group
            with self.phase("forward"):
                self.watch.begin()
                # (B, K, D), before the neck
                embeddings, carry_on = self.passes.embed(self.module, batch, self._autocast)
                with self._autocast():
                    terms, stats = self.module.score(embeddings, batch.labels, batch.index)
                loss = self.watch.see(torch.stack(list(terms.values())).sum())  # ()
            with self.phase("backward"):
                self.scaler.scale(loss / group_size).backward()
                carry_on()  # micro-batches: from the embeddings into the backbone
        self.watch.judge()
        if is_last and not self.watch.is_group_bad:
            with self.phase("optimizer"):
                self.module.finish_gradients()
                if self.options.grad_clip:
                    self._clip_gradients()
                for optimizer in self.optimizers:
                    self.scaler.step(optimizer)
                self.scaler.update()
                if self.average is not None:
                    self.average.update()
        if is_last:
            self.watch.end_group()
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
        return self._record(batch, loss.detach(), detach(terms), detach(stats))

    def _autocast(self) -> AbstractContextManager:
        return autocast(self.options.device, self.options.precision)

    def _clip_gradients(self) -> None:
        main = self.optimizers[0]  # the centres of the center loss have their own, unweighted gradient
        self.scaler.unscale_(main)
        nn.utils.clip_grad_norm_([p for group in main.param_groups for p in group["params"]], self.options.grad_clip)

    def _record(self, batch: Batch, loss: Tensor, terms: dict[str, Tensor], stats: dict[str, Tensor]) -> Losses:
        """Count the batch and add its numbers to the means of the epoch; a batch left out is only counted."""
        progress = self.progress
        progress.batches += 1
        progress.images += len(batch.labels) * self.ranks.size
        trained = TrainedBatch(progress.epoch, progress.batches, terms, batch.index)
        if self.watch.is_good:
            progress.means.add({**terms, **stats, "loss": loss})
            self.watch.remember(trained)
        else:
            progress.skipped += 1
            self.watch.skip(trained, progress.skipped_in_all)
        return terms, stats

    @property
    def _waits_for_losses(self) -> bool:
        """Whether reading a loss makes the device run dry."""
        return self.options.device.type != "cpu"

    def _show(self, bar: tqdm, numbers: bool) -> None:
        if numbers:
            means = {name: f"{value:.3g}" for name, value in self.progress.means.read().items()}
            bar.set_postfix({**means, "img/s": f"{self.progress.images_per_second:.0f}"})
        bar.update()

    def check_weights(self) -> None:
        """Raise NonFiniteLoss if a weight or a norm's statistic is NaN or infinite: it must not replace a good checkpoint."""
        check_weights(self.module, f"epoch {self.progress.epoch}, iteration {self.progress.batches}")

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes in training, as tensors and plain types. Collective; rank 0 receives all of it."""
        state: dict[str, Any] = {
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "ema": self.average.state_dict() if self.average is not None else None,
            "progress": self.progress.state_dict(),
            "random": random_state(),
        }
        if self.ranks.size > 1:
            state["random_of_ranks"] = self.ranks.gather_objects(state["random"])
        return gather_state(state, self.ranks)

    def check_place(self) -> None:
        """Raise UserError if the batches of the half-done epoch have changed."""
        done, all_ = self.progress.batches, len(self.loader)
        if done > all_ or (done < all_ and done % self.options.accumulate):
            raise UserError(
                f"--resume: the checkpoint was written after {done} batches of an epoch, which now has {all_} in groups of "
                f"{self.options.accumulate}; go back to its SOLVER.IMS_PER_BATCH, SOLVER.ACCUMULATE, DATALOADER and DATASETS options"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict()`.

        Raises:
            ValueError: the state is of another model, loss or optimizer.
        """
        try:
            self.module.load_state_dict(shard_state(state["module"], self.module))
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                load_optimizer(optimizer, saved)
            if self.average is not None:
                weights = shard_state(state["ema"]["model"], self.average.model)
                self.average.load_state_dict({**state["ema"], "model": weights})
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = "the checkpoint does not fit this config's model, loss or optimizer"
            raise UserError(f"--resume: {what}: {error}") from error
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if "progress" in state:  # older checkpoints have none
            self.progress = Progress.from_state(state["progress"])
            if self.progress.batches:  # the rates of the last step, in case the state is saved before the next one
                self.schedule.apply(self.optimizers, self.progress.epoch, self.progress.batches - 1)
        self._restore_random(state)

    def _restore_random(self, state: dict[str, Any]) -> None:
        """Restore the random state of each rank; with another number of ranks, seed them from the first state."""
        states = state.get("random_of_ranks", [state["random"]])
        if len(states) == self.ranks.size:
            restore_random_state(states[self.ranks.rank])
            return
        logger.info(
            "--resume: saved by %d processes, now there are %d: dropout and stochastic depth draw anew",
            *(len(states), self.ranks.size),
        )
        seed_rank(abs(fingerprint(states[0]["torch"])), self.ranks, step=1)


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore momentum and other state; learning rates and weight decays stay those of the config, which may have changed."""
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    saved = state["param_groups"]
    # not set afterwards: a group's `fused` decides on which device Adam's `step` is put
    groups = [{**group, **own} for group, own in zip(saved, options, strict=False)] + saved[len(options) :]
    optimizer.load_state_dict({**state, "param_groups": groups})
    shard_optimizer(optimizer)


def detach(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same scalars without their graphs."""
    return {name: value.detach() for name, value in values.items()}
