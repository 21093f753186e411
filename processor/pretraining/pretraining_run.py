"""One pre-training: train an epoch, save, evaluate the teacher, log; until all epochs are done or a signal comes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from ...common.csv_file import write_csv
from ...common.errors import UserError
from ...model import ReidModel, save_deploy
from ..runs.checkpoint import rotate, save_last
from ..runs.run_folder import PRETRAINED, PRETRAINING_EPOCHS, RunFolder
from ..runs.signals import Stopped, StopSignals
from ..scoring.evaluator import Evaluator
from .pretraining_trainer import PretrainingTrainer

logger = logging.getLogger(__name__)
FORMAT = "vitreid-pretraining-1"  # of last.pth
FIGURES = ("teacher_entropy", "batch_entropy", "feature_std")
COLUMNS = (
    *("epoch", "loss", "crops", "patches", *FIGURES, "lr", "weight_decay", "momentum", "teacher_temp"),
    *("images_per_second", "seconds", "mAP", "Rank-1"),
)


@dataclass(frozen=True)
class PretrainingOptions:
    """How long a run pre-trains, when it saves and evaluates.

    Args:
        probe_period, checkpoint_period: in epochs; the last epoch is always evaluated and saved; 0 = no evaluation.
        checkpoint_steps: iterations between saves inside an epoch; 0 = none.
        keep_last: number of newest epochs whose checkpoints are kept; 0, 1 = only last.pth.
        images: digest of the training images; a resumed run has the same.
        config: the resolved config as YAML, for checkpoints.
    """

    num_epochs: int
    probe_period: int
    checkpoint_period: int
    checkpoint_steps: int
    keep_last: int
    images: str
    config: str


class PretrainingRun:
    """A run of pre-training: trainer, evaluator of the teacher, and the folder for the results.

    Args:
        evaluator: None = no labelled people.
        describe: metrics -> what the saved teacher says about itself, in plain types.
    """

    def __init__(
        self,
        trainer: PretrainingTrainer,
        evaluator: Evaluator | None,
        folder: RunFolder,
        options: PretrainingOptions,
        describe: Callable[[dict[str, float]], dict[str, Any]],
    ) -> None:
        self.trainer, self.evaluator, self.folder, self.options = trainer, evaluator, folder, options
        self.describe = describe
        self.first_epoch = 1
        self.signals = StopSignals()
        self._row: dict[str, float] | None = None  # of the last trained epoch, which may lack its evaluation

    @property
    def teacher(self) -> ReidModel:
        """The teacher's model."""
        return self.trainer.module.teacher.model

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it is of other images, or of another model, head or loss.
        """
        if state["images"] != self.options.images:
            raise UserError(
                f"--resume: the checkpoint was trained on other images ({state['images']}, here {self.options.images}); go back to its "
                "DATASETS options"
            )
        self.trainer.load_state_dict(state["trainer"])
        self.first_epoch, self._row = state["epoch"] + 1, state["row"]
        batches = self.trainer.progress.of_epoch(self.first_epoch).batches
        inside = f" and {batches} of {len(self.trainer.loader)} iterations" if batches else ""
        logger.info("resumed after epoch %d of %d%s", state["epoch"], self.options.num_epochs, inside)

    def train(self) -> None:
        """Pre-train the remaining epochs.

        Raises:
            Stopped: a signal came; all that was done is saved.
        """
        epochs, length = self.options.num_epochs, len(self.trainer.loader)
        done = (self.first_epoch - 1) * length + self.trainer.progress.of_epoch(self.first_epoch).batches
        with self.signals, tqdm(total=epochs * length, initial=done, desc="pretrain", unit="it", disable=None) as bar:
            if self._row is not None and not self.folder.has_epoch(int(self._row["epoch"])):
                self._close_epoch(self._row)
            for epoch in range(self.first_epoch, epochs + 1):
                row: dict[str, float] = {"epoch": epoch}
                self._close_epoch({**row, **self.trainer.train_epoch(epoch, bar, self._between_steps)})
        if self.first_epoch > epochs:
            logger.info("nothing left to train: %d epochs are done", epochs)
        file = self.folder.path / PRETRAINED
        logger.info(
            "the teacher's backbone is %s; start from it: MODEL.PRETRAIN_CHOICE self MODEL.PRETRAIN_PATH %s", file, file
        )

    def _between_steps(self) -> None:
        """Save if a save is due, stop if a signal came. `_close_epoch` does both at the end of an epoch."""
        done, steps, asked = self.trainer.progress.batches, self.options.checkpoint_steps, self.signals.asked
        if done == len(self.trainer.loader):
            return
        if asked or (steps and done % steps == 0):
            self._save(self.trainer.progress.epoch - 1)
        if asked:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        stop, progress = self.signals.stop(), self.trainer.progress
        logger.warning(
            "stopped by %s in epoch %d, after %d of %d iterations; saved in %s; resume with the same command and --resume",
            *(stop, progress.epoch, progress.batches, len(self.trainer.loader), self.folder.last),
        )
        return stop

    def _close_epoch(self, row: dict[str, float]) -> None:
        """Save, evaluate and log a trained epoch."""
        epoch, self._row = int(row["epoch"]), dict(row)
        saves = self._is_due(epoch, self.options.checkpoint_period)
        if saves:
            self._save_epoch(epoch)
        try:
            with self._stoppable():
                if self.evaluator is not None and self._is_due(epoch, self.options.probe_period):
                    row.update(self.evaluator(self.teacher).summary())
        except Stopped:
            if not saves:
                self._save_epoch(epoch)
            raise self._stopped() from None
        if saves:
            save_deploy(self.folder.path / PRETRAINED, self.teacher, self.describe(row))
        self.folder.write_epoch(row)
        write_csv(self.folder.path / PRETRAINING_EPOCHS, COLUMNS, self.folder.epoch_rows())
        logger.info("%s", pretraining_line(row, self.options.num_epochs))

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        with self.signals.at_once():
            yield

    def _is_due(self, epoch: int, period: int) -> bool:
        return period > 0 and (epoch % period == 0 or epoch == self.options.num_epochs)

    def _save_epoch(self, epoch: int) -> None:
        self._save(epoch)
        rotate(self.folder.last, epoch, self.options.keep_last)

    def _save(self, epoch: int) -> None:
        """Write last.pth after `epoch` complete epochs and possibly a part of the next; errors as `Run` in training."""
        state = {
            "format": FORMAT,
            "epoch": epoch,
            "row": self._row,
            "images": self.options.images,
            "config": self.options.config,
            "provenance": self.describe({})["provenance"],
            "trainer": self.trainer.state_dict(),
        }
        save_last(self.folder.last, state)


def pretraining_line(row: Mapping[str, float], num_epochs: int) -> str:
    """Return the log line of an epoch.

    >>> row = {"epoch": 1, "loss": 9.0, "crops": 6.0, "patches": 3.0, "teacher_entropy": 2.0, "batch_entropy": 5.0, "feature_std": 0.7}
    >>> pretraining_line({**row, "lr": 0.001, "images_per_second": 50.0, "seconds": 3.0, "mAP": 0.1, "Rank-1": 0.2}, 3)
    'epoch 1/3  loss 9.000 crops 6.000 patches 3.000  teacher_entropy 2.00 batch_entropy 5.00 feature_std 0.70  lr 1.00e-03  50 img/s  3.0 s  mAP 10.0%  Rank-1 20.0%'
    """
    parts = [
        f"epoch {row['epoch']}/{num_epochs}",
        " ".join(f"{name} {row[name]:.3f}" for name in ("loss", "crops", "patches") if name in row),
        " ".join(f"{name} {row[name]:.2f}" for name in FIGURES),
        f"lr {row['lr']:.2e}",
        f"{row['images_per_second']:.0f} img/s",
        f"{row['seconds']:.1f} s",
        f"mAP {100 * row['mAP']:.1f}%  Rank-1 {100 * row['Rank-1']:.1f}%" if "mAP" in row else "",
    ]
    return "  ".join(part for part in parts if part)
