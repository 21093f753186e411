"""The loop of self-supervised pre-training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from tqdm import tqdm

from ...common.errors import UserError
from ...datasets import MultiCrop, TrainLoader
from ...solver import Schedule
from ..device import autocast
from ..runs.checkpoint import random_state, restore_random_state
from ..training.nonfinite import REMEDY, NonFiniteLoss, check_weights
from ..training.progress import Progress
from .block_masks import draw_masks
from .pretraining_schedule import TeacherSchedule
from .self_distillation import SelfDistillation, Views


@dataclass(frozen=True)
class PretrainingStep:
    """How one step is computed.

    Args:
        device, precision: of the forward pass.
        grad_clip: largest norm of the gradient; 0 = no clipping.
        mask_prob, mask_ratio: share of masked crops, and of their tokens; see `draw_masks`.
        frozen_epochs: first epochs in which the prototypes do not change.
        log_period: iterations between reads of the losses, each of which waits for the device.
        seed: of views and masks.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    grad_clip: float = 3.0
    mask_prob: float = 0.5
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    frozen_epochs: int = 1
    log_period: int = 50
    seed: int = 0


class PretrainingTrainer:
    """Trains a student and its averaged teacher epoch by epoch.

    Views and masks of a batch are determined by the seed, the epoch and its number, so a resumed run draws the same.

    Args:
        loader: batches of uint8 images.
        multi_crop: images -> views.
        rates: learning rate by iteration.
        schedule: what else changes.
    """

    def __init__(
        self,
        module: SelfDistillation,
        loader: TrainLoader,
        multi_crop: MultiCrop,
        optimizer: AdamW,
        rates: Schedule,
        schedule: TeacherSchedule,
        step: PretrainingStep,
    ) -> None:
        self.module, self.loader, self.multi_crop = module, loader, multi_crop
        self.optimizer, self.rates, self.schedule, self.options = optimizer, rates, schedule, step
        self._trained = [parameter for _, parameter in module.trained_parameters()]
        self.grid = module.grid(multi_crop.preprocess.size)
        if multi_crop.num_local:
            module.grid(multi_crop.local_size)  # raises where it has none
        self.progress = Progress()
        self.scaler = torch.amp.GradScaler(step.device.type, enabled=step.precision is torch.float16)

    def train_epoch(self, epoch: int, bar: tqdm, after_step: Callable[[], object] = lambda: None) -> dict[str, float]:
        """Train an epoch (counted from 1), or the rest of it; return its row: means of terms and figures, rates, images per second.

        Args:
            after_step: called after each step, when `state_dict` is all there is to save. May raise.
        """
        self.progress = progress = self.progress.of_epoch(epoch)
        self.module.train()
        self.loader.set_epoch(epoch, progress.batches)
        start, length = time.perf_counter() - progress.seconds, len(self.loader)
        for batch in self.loader:
            self._step(batch.images)
            progress.seconds = time.perf_counter() - start
            if progress.batches % self.options.log_period == 0 or progress.batches == length:
                self._show(bar)
            bar.update()
            after_step()
        group = self.optimizer.param_groups[0]
        done = float(epoch)
        return {
            **progress.means.read(),
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "momentum": self.schedule.momentum_at(done),
            "teacher_temp": self.schedule.temp_at(done),
            "images_per_second": progress.images_per_second,
            "seconds": progress.seconds,
        }

    def _step(self, images: Tensor) -> None:
        """Train on the images (B, 3, H, W) uint8."""
        options, progress = self.options, self.progress
        at = self.rates.progress(progress.epoch, progress.batches)  # epochs, a fraction
        self._apply_schedules(at)
        views = self.views(images)
        with autocast(options.device, options.precision):
            terms, figures = self.module(views, self.schedule.temp_at(at))
        loss = torch.stack(list(terms.values())).sum()
        self.scaler.scale(loss).backward()
        if progress.epoch <= options.frozen_epochs:
            self.module.student.head.prototypes.grad = None  # the optimizer skips it
        if options.grad_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._trained, options.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.module.update_teacher(self.schedule.momentum_at(at))
        progress.batches += 1
        progress.images += len(images)
        progress.means.add({"loss": loss, **terms, **figures})

    def _apply_schedules(self, at: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates.lr(at)
            if group["decays"]:
                group["weight_decay"] = self.schedule.weight_decay_at(at)

    def views(self, images: Tensor) -> Views:
        """Return the views of the next batch."""
        seeds = np.random.SeedSequence((self.options.seed, self.progress.epoch, self.progress.batches))
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        large, small = self.multi_crop(images, generator)
        if not self.module.is_masking:
            return Views(large, small)
        rng = np.random.default_rng(seeds.spawn(1)[0])
        mask = draw_masks(len(large), self.grid, self.options.mask_prob, self.options.mask_ratio, rng)
        return Views(large, small, mask.to(images.device))

    def _show(self, bar: tqdm) -> None:
        """Show the means; raise NonFiniteLoss if one is not finite."""
        means, progress = self.progress.means.read(), self.progress
        if not np.isfinite(list(means.values())).all():
            shown = ", ".join(f"{name} {value:g}" for name, value in means.items())
            raise NonFiniteLoss(f"epoch {progress.epoch}, up to iteration {progress.batches}: {shown}. {REMEDY}")
        bar.set_postfix({"loss": f"{means['loss']:.3f}", "img/s": f"{progress.images_per_second:.0f}"})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as tensors and plain types.

        Raises:
            NonFiniteLoss: a weight is NaN or infinite.
        """
        check_weights(self.module, f"epoch {self.progress.epoch}, iteration {self.progress.batches}")
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": self.progress.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict()`.

        Raises:
            UserError: it is of another model, head or loss, or of an epoch with more batches.
        """
        try:
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"--resume: the checkpoint does not fit this config's model, head or loss: {error}"
            ) from error
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress.from_state(state["progress"])
        if self.progress.batches > len(self.loader):
            raise UserError(
                f"--resume: the checkpoint was written after {self.progress.batches} batches of an epoch, which now has "
                f"{len(self.loader)}; go back to its SOLVER.IMS_PER_BATCH and DATASETS options"
            )
        restore_random_state(state["random"])
