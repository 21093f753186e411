"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from ...common.errors import UserError
from ...solver import Average
from ..device import autocast
from ..distributed.consistency import fingerprint
from ..distributed.ddp import seed_rank
from ..distributed.fsdp import gather_state, shard_optimizer, shard_state
from ..distributed.process_group import ALONE, Ranks
from ..runs.rng import random_state, restore_random_state
from .micro_batches import WholeBatch
from .nonfinite import REMEDY, FiniteWatch, NonFiniteLoss, Seen, are_finite
from .progress import Progress
from .training_module import TrainingModule

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a module epoch by epoch.

    Args:
        module: batch -> (terms to add up, stats to watch).
        optimizers: all are stepped together.
        schedule: its `apply(optimizers, epoch, iteration)` sets the learning rates.
        loader: `set_epoch(epoch, first_batch)`, a length, and batches on the device.
        passes: forward and backward of one batch (processor/training/micro_batches.py).
        paths: file names of the training records, for messages.
        average: averaged weights to update after every step (`solver.Average`), or None.
        accumulate: batches per step.
        grad_clip: largest gradient norm; 0 = none.
        log_period: iterations between reads of the loss values, each of which waits for the device.
        skip_nonfinite: batches of the run that may be left out because their loss is not a number; 0 = stop at the first.
            Above 0 every batch's loss is read before the weights change (`FiniteWatch` says what that waits for). The step
            of its group of batches does not take place.
        ranks: the processes that share every batch.
    """

    def __init__(
        self,
        module: TrainingModule,
        optimizers: Sequence[Optimizer],
        schedule: Any,
        loader: Any,
        *,
        device: torch.device,
        precision: torch.dtype,
        passes: Any = None,
        paths: Sequence[str] = (),
        average: Average | None = None,
        accumulate: int = 1,
        grad_clip: float = 0.0,
        log_period: int = 50,
        skip_nonfinite: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.module = module
        self.optimizers = list(optimizers)
        self.schedule = schedule
        self.loader = loader
        self.device = device
        self.precision = precision
        self.passes = passes or WholeBatch()
        self.paths = paths
        self.average = average
        self.accumulate = accumulate
        self.grad_clip = grad_clip
        self.log_period = log_period
        self.skip_nonfinite = skip_nonfinite
        self.ranks = ranks
        self.watch = FiniteWatch(module, active=skip_nonfinite > 0)
        self.progress = Progress()
        self.last_is_good = True  # the loss of the last batch was a number
        self._unseen: list[Seen] = []  # the batches since the last look at the losses
        self._is_spoiled = False  # a loss in the group of batches that share a step
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)

    def train_epoch(self, epoch: int, bar: tqdm, after_step: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train an epoch (counted from 1), or what is left of it; return the means of its terms and stats, and images per second.

        Args:
            after_step: called whenever the weights have changed and no gradients are pending: the moments at which
                `state_dict` is all there is to save. May raise.
        """
        self.progress = self.progress.of_epoch(epoch)
        self.schedule.apply(self.optimizers, epoch, self.progress.batches)  # first: it freezes and thaws, and
        self.module.train()  # parts that are frozen now stay in evaluation mode
        if self.average is not None:
            self.average.start_epoch(epoch)
        self.loader.set_epoch(epoch, self.progress.batches)
        start = time.perf_counter() - self.progress.seconds
        for iteration, batch in enumerate(self.loader, self.progress.batches):
            is_last = iteration + 1 == len(self.loader)
            do_step = is_last or (iteration + 1) % self.accumulate == 0
            self._iterate(batch, epoch, iteration, do_step, shows=is_last or iteration % self.log_period == 0)
            self.progress.seconds = time.perf_counter() - start
            self._show(bar, iteration % self.log_period == 0 or is_last)
            if do_step:
                after_step()
        return {**self.progress.means.read(), "images_per_second": self.progress.images_per_second}

    def _iterate(self, batch: Any, epoch: int, iteration: int, do_step: bool, shows: bool) -> None:
        self.schedule.apply(self.optimizers, epoch, iteration)
        terms, stats = self.step(batch, do_step, self._group_size(iteration))
        self.progress.batches = iteration + 1
        self.progress.images += len(batch.labels) * self.ranks.size
        seen = Seen(epoch, iteration + 1, terms, batch.index)
        if not self.last_is_good:
            self._skip(seen)
            return
        self.progress.means.add({**terms, **stats, "loss": torch.stack(list(terms.values())).sum()})
        self._unseen.append(seen)
        if shows or not self._waits_for_losses:
            self._check_finite()
            self._unseen.clear()

    @property
    def _waits_for_losses(self) -> bool:
        """Whether a look at a loss makes the device run dry."""
        return self.device.type != "cpu"

    def _group_size(self, iteration: int) -> int:
        """Return how many batches share the step of this one; the last group of an epoch may be short."""
        first = iteration - iteration % self.accumulate
        return min(self.accumulate, len(self.loader) - first)

    def step(
        self, batch: Any, do_step: bool = True, group_size: int = 1
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Back-propagate one batch of a group and, if `do_step`, update the weights; return (terms, stats), detached.

        A batch whose loss is not a number changes nothing where such batches may be left out (see `last_is_good`).
        """
        self.watch.begin()
        with nullcontext() if do_step else self.module.no_sync():
            terms, stats = self.passes(
                self.module,
                batch,
                lambda: autocast(self.device, self.precision),
                lambda loss: self.scaler.scale(self.watch.see(loss) / group_size),
            )
        self.last_is_good = self.watch.is_good()
        if self.skip_nonfinite:
            self.last_is_good = not self.ranks.any(not self.last_is_good)
        self._is_spoiled |= not self.last_is_good
        if do_step:
            self._leave_out() if self._is_spoiled else self.update()
        return terms, stats

    def _leave_out(self) -> None:
        """End a group of batches without a step."""
        self._zero_grad()
        self._is_spoiled = False

    def update(self) -> None:
        """Change the weights by the gradients that are pending."""
        self.module.finish_gradients()
        if self.grad_clip:
            main = self.optimizers[0]  # the centres of the center loss have their own, unweighted gradient
            self.scaler.unscale_(main)
            nn.utils.clip_grad_norm_([p for group in main.param_groups for p in group["params"]], self.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._zero_grad()
        if self.average is not None:
            self.average.update()

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _skip(self, seen: Seen) -> None:
        """Log and count a batch that was left out; raise NonFiniteLoss if they are too many."""
        self.progress.skipped += 1
        number = self.progress.skipped_in_all
        if number > self.skip_nonfinite:
            raise NonFiniteLoss(
                f"{number} batches had a loss that is not a number, SOLVER.SKIP_NONFINITE allows {self.skip_nonfinite}; "
                f"the last at {seen}; {self._files(seen)}. {REMEDY}"
            )
        logger.warning(
            "left out a batch (%d of %d allowed), its loss is not a number: %s; %s",
            *(number, self.skip_nonfinite, seen, self._files(seen)),
        )

    def _files(self, seen: Seen) -> str:
        """Name all images of a batch, those of the other processes too, which have to ask as well."""
        if not self.paths:
            return "its images have no names"
        parts = self.ranks.gather_objects([self.paths[position] for position in seen.positions.tolist()])
        return "its images: " + ", ".join(name for part in parts for name in part)

    def _check_finite(self) -> None:
        """Raise NonFiniteLoss if a loss since the last look was not a number; all processes see the same losses."""
        sums = self.progress.means.sums()
        if are_finite([*(term for seen in self._unseen for term in seen.terms.values()), *sums]):
            return
        bad = next((seen for seen in self._unseen if not are_finite([*seen.terms.values()])), None)
        seen = bad or self._unseen[-1]
        what = "the loss is not a number at" if bad else "the means of the epoch are not numbers, up to"
        raise NonFiniteLoss(f"{what} {seen}; {self._files(seen)}. {REMEDY}")

    def check_weights(self) -> None:
        """Raise NonFiniteLoss if a weight or a norm's statistic is not a number: such a state must not replace a good checkpoint."""
        statistics = [buffer for buffer in self.module.buffers() if buffer.is_floating_point()]
        if not are_finite([*self.module.parameters(), *statistics]):
            where = f"epoch {self.progress.epoch}, iteration {self.progress.batches}"
            raise NonFiniteLoss(f"the weights are not numbers any more after {where}; nothing was saved. {REMEDY}")

    def _show(self, bar: tqdm, numbers: bool) -> None:
        if numbers:
            means = {name: f"{value:.3g}" for name, value in self.progress.means.read().items()}
            bar.set_postfix({**means, "img/s": f"{self.progress.images_per_second:.0f}"})
        bar.update()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes while training, as tensors and plain types; call it on all processes, the first has it all."""
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
        """Raise ValueError if the batches of a half-done epoch are now others."""
        done, all_ = self.progress.batches, len(self.loader)
        if done > all_ or (done < all_ and done % self.accumulate):
            raise UserError(
                f"--resume: the checkpoint was written after {done} batches of an epoch, which now has {all_} in groups of "
                f"{self.accumulate}; go back to its SOLVER.IMS_PER_BATCH, SOLVER.ACCUMULATE, DATALOADER and DATASETS options"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a `state_dict()`.

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
            raise UserError(
                f"--resume: the checkpoint does not fit this config's model, loss or optimizer: {error}"
            ) from error
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if "progress" in state:  # not in checkpoints of before
            self.progress = Progress.from_state(state["progress"])
            if self.progress.batches:  # the rates of the last step, should the state be saved before another
                self.schedule.apply(self.optimizers, self.progress.epoch, self.progress.batches - 1)
        self._restore_random(state)

    def _restore_random(self, state: dict[str, Any]) -> None:
        """Go on with each process' random draws; if their number has changed, with others, the same in every repetition."""
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
    """Restore momentum and the like; the rates and decays stay those of the config, which may have changed."""
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    saved = state["param_groups"]
    # not set afterwards: a group's `fused` decides on which device Adam's `step` is put
    groups = [{**group, **own} for group, own in zip(saved, options, strict=False)] + saved[len(options) :]
    optimizer.load_state_dict({**state, "param_groups": groups})
    shard_optimizer(optimizer)
