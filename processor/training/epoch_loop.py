"""One training run: train an epoch, save, evaluate, log; until all epochs are done or a signal comes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from tqdm import tqdm

from ...common.errors import UserError
from ...common.text import percent
from ...datasets import ReidData
from ...evaluation import RetrievalResult
from ...model import ReidModel, save_deploy
from ..device import prefers_fused_attention
from ..distributed.consistency import check_agreed, fingerprint
from ..distributed.fsdp import whole_model
from ..distributed.process_group import ALONE, Ranks
from ..pseudo_labels.pseudo_labels import PseudoLabels
from ..runs.checkpoint import rotate, save_last
from ..runs.run_folder import RunFolder
from ..runs.signals import Stopped, StopSignals
from ..scoring.evaluator import Evaluator
from ..scoring.result_tables import result_table
from ..scoring.thresholds import try_to_calibrate
from .memory_estimate import report_memory
from .progress import epoch_line
from .trainer import Trainer
from .training_module import TrainingModule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSession:
    """Data, model, loss, optimizers and trainer of one training; `build_session` makes it from a config.

    Args:
        labels: pid -> training class.
        module: model and loss.
        batch_size: images per batch on this rank.
        is_sharded: each rank keeps a part of the weights (FSDP).
        compiles: whether `compile` compiles the backbone.
        pseudo_labels: clusters as training classes, instead of `labels`; None = the people in the data.
    """

    data: ReidData
    labels: dict[int, int]
    module: TrainingModule
    trainer: Trainer
    device: torch.device
    precision: torch.dtype
    batch_size: int
    is_sharded: bool = False
    compiles: bool = False
    ranks: Ranks = ALONE
    pseudo_labels: PseudoLabels | None = None

    def compile(self) -> None:
        """Compile the backbone if SOLVER.COMPILE is on. Call it after all other work with the model, before the first step."""
        if self.compiles:
            compile_backbone(self.module.model)


def compile_backbone(model: ReidModel, backend: str = "inductor") -> None:
    """Let torch compile the backbone at its first call.

    In place: names in its state dict stay as they are, and copies of it (EMA) are not compiled.
    """
    model.backbone.compile(backend=backend)


@dataclass(frozen=True)
class RunOptions:
    """How long a run trains, when it saves and evaluates, and what it writes.

    Args:
        eval_period, checkpoint_period: in epochs; the last epoch is always evaluated and saved.
        checkpoint_steps: iterations between saves inside an epoch; 0 = none.
        keep_last: number of newest epochs whose checkpoints are kept; 0, 1 = only last.pth.
        counts_skipped: write the number of batches left out into metrics.jsonl.
        validates: query and gallery are people held out of training, so the best epoch may be chosen by them.
        fmr: false match rate of the threshold that is stored.
        config: the resolved config as YAML, for checkpoints.
        other_tests: test sets to mention at the end.
        patience: evaluations without a better mAP after which training stops; 0 = never.
    """

    num_epochs: int
    eval_period: int
    checkpoint_period: int
    checkpoint_steps: int
    keep_last: int
    counts_skipped: bool
    validates: bool
    fmr: float
    config: str
    other_tests: tuple[str, ...] = ()
    patience: int = 0


class Run:
    """A training run: a session, the evaluator of its model, and the folder for its results.

    Args:
        evaluator: None = there is no test set, which only training without labels does without.
        describe: metrics -> what a checkpoint says about itself, in plain types.
    """

    def __init__(
        self,
        session: TrainingSession,
        evaluator: Evaluator | None,
        folder: RunFolder,
        options: RunOptions,
        describe: Callable[[dict[str, float]], dict[str, Any]],
    ) -> None:
        self.session = session
        self.trainer, self.model, self.ranks = session.trainer, session.module.model, session.ranks
        self.pseudo_labels = session.pseudo_labels
        self.evaluator = evaluator
        self.folder = folder
        self.options = options
        self.describe = describe
        self.first_epoch, self.best = 1, 0.0
        self.signals = StopSignals()
        self._row: dict[str, float] | None = None  # numbers of the last trained epoch, which may lack its evaluation
        self._saved_at = 0  # batches of the current epoch at the last save

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it was trained on other people or cameras, or with another model, loss or optimizer.
        """
        self._check_people(state)
        if self.pseudo_labels is not None:
            self.pseudo_labels.load_state_dict(state["pseudo_labels"])
        self.trainer.load_state_dict(state["trainer"])
        self.first_epoch, self._row = state["epoch"] + 1, state.get("row")
        if self.ranks.from_first(self.folder.best.exists):  # otherwise the best so far is in another run's folder
            self.best = state["best"]
        progress, inside = self.trainer.progress, ""
        if progress.epoch == self.first_epoch:
            self.trainer.check_place()
            inside = f" and {progress.batches} of {len(self.trainer.loader)} iterations"
        weights, done = state["trainer"]["module"].items(), {"epochs": state["epoch"], "iterations": progress.batches}
        check_agreed(lambda: done | {name: fingerprint(v) for name, v in weights}, self.ranks, "checkpoints")
        logger.info("resumed after epoch %d of %d%s", state["epoch"], self.options.num_epochs, inside)

    def _check_people(self, state: dict[str, Any]) -> None:
        """Raise UserError if a row of the classifier or of the camera table would now belong to another person or camera."""
        about = self.describe({})
        if ("pseudo_labels" in state) != (self.pseudo_labels is not None):
            raise UserError(
                f"--resume: the checkpoint was trained with{'' if self.pseudo_labels is None else 'out'} UNSUPERVISED.CLUSTERING; go "
                "back to its option"
            )
        cameras = (tuple(state["spec"]["cameras"]), self.model.spec.cameras)
        people = [{key: side[key] for key in ("labels", "people")} for side in (state["about"], about)]
        if people[0] != people[1] or cameras[0] != cameras[1]:
            raise UserError(
                f"--resume: the checkpoint was trained on {len(state['about']['labels'])} people and {len(cameras[0])} cameras, "
                f"the training set now has {len(self.session.labels)} and {len(cameras[1])}, or others; go back to its DATASETS options"
            )

    @property
    def deployed(self) -> ReidModel:
        """The model to evaluate and deploy: with averaged weights if there are any; whole on every rank."""
        average = self.trainer.average
        model = cast(ReidModel, average.model) if average is not None else self.model
        return whole_model(model, self.session.device)

    def train(self) -> RetrievalResult | None:
        """Train the remaining epochs, evaluate and save; return the last evaluation, None without a test set.

        Raises:
            Stopped: a signal came; all that was done is saved.
        """
        self._announce()
        if not self.session.is_sharded:  # each device holds a part of the tensors only
            report_memory(self.trainer, self.session.batch_size, self.model.spec.img_size)
        self.session.compile()
        with self.signals:
            result = self._finish_epoch()
            result = self._train_epochs() or result
            self._finish_rounds()
        if result is None and self.evaluator is not None:
            logger.info("nothing left to train: %d epochs are done", self.options.num_epochs)
            result = self.evaluator(self.deployed)
        if result is not None:
            data = self.session.data
            logger.info("%s", result_table({f"{data.evaluated} {data.evaluations[0].name}".strip(): result}))
        logger.info("run folder: %s", self.folder.path)
        if self.options.other_tests:
            names = ", ".join(self.options.other_tests)
            logger.info("vitreid test --weights %s evaluates on %s", self.folder.best, names)
        return result

    def _finish_epoch(self) -> RetrievalResult | None:
        """Evaluate and log the last trained epoch if the earlier process ended before it could."""
        row = self._row
        if row is None or self.ranks.from_first(lambda: self.folder.has_epoch(int(row["epoch"]))):
            return None
        return self._close_epoch(row)

    def _train_epochs(self) -> RetrievalResult | None:
        epochs, length, result = self.options.num_epochs, len(self.trainer.loader), None
        done = (self.first_epoch - 1) * length + self.trainer.progress.of_epoch(self.first_epoch).batches
        mute = None if self.ranks.is_first else True  # None = hide the bar where there is no terminal
        with tqdm(total=epochs * length, initial=done, desc="train", unit="it", disable=mute, smoothing=0.05) as bar:
            for epoch in range(self.first_epoch, epochs + 1):
                self._start_round(epoch - 1)
                if self._has_no_patience():
                    break
                result = self._epoch(epoch, bar) or result
        return result

    def _has_no_patience(self) -> bool:
        """Return whether the last evaluations brought no better mAP; the same on all ranks, also after a resume."""
        if self.pseudo_labels is not None:
            return self.pseudo_labels.has_no_patience()
        patience = self.options.patience
        waited = self.ranks.from_first(self.folder.evaluations_since_best) if patience else 0
        if stops := 0 < patience <= waited:
            logger.info(
                "stopped early: %d evaluations brought no better mAP than %s (SOLVER.PATIENCE %d)",
                *(waited, percent(self.best), patience),
            )
        return stops

    def _start_round(self, epochs: int, is_last: bool = False) -> None:
        """Training without labels: cluster the images if that is due after so many epochs; save the best model by its score.

        A signal leaves the clusters as they were; the round is computed again after a resume.
        """
        labels = self.pseudo_labels
        inside = self.trainer.progress.of_epoch(epochs + 1).batches
        if labels is None or inside or not (labels.is_due(epochs) or (is_last and not labels.is_done(epochs))):
            return
        model = self.deployed
        try:
            with self._stoppable():
                found = labels.find(model, epochs)
        except Stopped:
            self._save_last(epochs)
            raise self._stopped() from None
        is_best = labels.adopt(found, self.trainer.optimizers)
        if self.ranks.is_first and is_best:
            save_deploy(self.folder.best, model, self.describe({"epoch": epochs, "score": found.figures.score}))
        labels.write(self.folder.path)

    def _finish_rounds(self) -> None:
        """Training without labels: cluster once more, and say which round was chosen."""
        if self.pseudo_labels is not None:
            self._start_round(self.trainer.progress.epoch, is_last=True)
            logger.info("%s", self.pseudo_labels.summary(self.folder.mean_precisions()))

    def _epoch(self, epoch: int, bar: tqdm) -> RetrievalResult | None:
        self._saved_at = self.trainer.progress.of_epoch(epoch).batches
        row: dict[str, float] = {"epoch": epoch, **self.trainer.train_epoch(epoch, bar, self._between_steps)}
        row["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = self.trainer.progress.seconds
        if self.options.counts_skipped:
            row["skipped"] = self.trainer.progress.skipped
        return self._close_epoch(row)

    def should_stop(self) -> bool:
        """Return whether to stop before the next step. Collective: the same on all ranks."""
        return self.ranks.any(self.signals.asked)

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Make the body interruptible.

        One process: a signal raises Stopped at once. Several: signals are checked before the body only, because a rank that
        leaves alone would block the others.
        """
        if self.ranks.size == 1:
            with self.signals.at_once():
                yield
        elif self.should_stop():
            raise self.signals.stop()
        else:
            yield

    def _between_steps(self) -> None:
        """Save if a save is due, stop if a signal came. `_close_epoch` does both at the end of an epoch."""
        done, steps = self.trainer.progress.batches, self.options.checkpoint_steps
        if done == len(self.trainer.loader):
            return
        stops = self.should_stop()
        if stops or (steps and done - self._saved_at >= steps):
            self._save_last(self.trainer.progress.epoch - 1)
            self._saved_at = done
        if stops:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        self.ranks.wait()  # torchrun kills the other processes when one ends, and rank 0 may still be saving
        stop, progress = self.signals.stop(), self.trainer.progress
        logger.warning(
            "stopped by %s in epoch %d, after %d of %d iterations; saved in %s; resume with the same command and --resume",
            *(stop, progress.epoch, progress.batches, len(self.trainer.loader), self.folder.last),
        )
        return stop

    def _close_epoch(self, row: dict[str, float]) -> RetrievalResult | None:
        """Save, evaluate and log a trained epoch."""
        epoch, self._row = int(row["epoch"]), dict(row)
        saves, best, result = self._is_due(epoch, self.options.checkpoint_period), self.best, None
        evaluates = self.evaluator is not None and self._is_due(epoch, self.options.eval_period)
        if saves:
            self._save_epoch(epoch)  # before the evaluation, so that a failure there does not lose the epoch
        elif evaluates and self.ranks.size > 1:
            self._save_last(epoch)  # several ranks finish the evaluation after a signal; torchrun kills them after 30 s
        try:
            with self._stoppable():
                if evaluates:
                    result = self._evaluate(epoch, row)
        except Stopped:
            if not saves:
                self._save_epoch(epoch)
            raise self._stopped() from None
        if saves and self.best != best:
            self._save_epoch(epoch)
        self.folder.write_epoch(row)
        logger.info("%s", epoch_line(row, self.options.num_epochs))
        return result

    def _is_due(self, epoch: int, period: int) -> bool:
        return epoch % period == 0 or epoch == self.options.num_epochs

    def _evaluate(self, epoch: int, row: dict[str, float]) -> RetrievalResult:
        """Evaluate; keep the best epoch if people are held out for validation, else the latest: no choice is made on the test set."""
        model, evaluator = self.deployed, cast(Evaluator, self.evaluator)
        features = evaluator.extract(model)
        result = evaluator.rank(features)
        row.update(result.summary())
        validates = self.options.validates
        if self.pseudo_labels is not None:  # the best is chosen by their score
            return result
        if result.mAP >= self.best or not validates:
            self.best = result.mAP if validates else 0.0
            if features is not None:
                about = self.describe({"epoch": epoch, **result.summary()})
                calibration = try_to_calibrate(features, self.options.fmr) if validates else None
                if calibration:
                    about["threshold"] = calibration.to_dict()
                save_deploy(self.folder.best, model, about)
        return result

    def _save_epoch(self, epoch: int) -> None:
        self._save_last(epoch)
        if self.ranks.is_first:
            rotate(self.folder.last, epoch, self.options.keep_last)

    def _save_last(self, epoch: int) -> None:
        """Write last.pth after `epoch` complete epochs and possibly a part of the next.

        Raises:
            NonFiniteLoss: a weight is NaN or infinite; OSError: the file cannot be written. The earlier file is intact.
        """
        self.trainer.check_weights()
        state = {
            "epoch": epoch,
            "best": self.best,
            "row": self._row,
            "config": self.options.config,
            "about": self.describe({"epoch": epoch}),
            "trainer": self.trainer.state_dict(),
        }
        if self.pseudo_labels is not None:
            state["pseudo_labels"] = self.pseudo_labels.state_dict()
        if self.ranks.is_first:
            save_last(self.folder.last, {**state, "spec": self.model.spec.to_dict()})

    def _announce(self) -> None:
        data = self.session.data
        people = "without labels" if self.pseudo_labels is not None else f"of {len(self.session.labels)} people"
        if data.num_source:
            known = len({record.pid for record in data.source})
            people += f" or of {known} known people ({data.num_source} images)"
        what = "tracklets" if any(record.frames for record in data.train) else "images"
        logger.info(
            "%s: %d training %s %s, %d queries, %d gallery",
            *(data.name, len(data.train), what, people, len(data.query), len(data.gallery)),
        )
        device, precision = self.session.device, self.session.precision
        attention = "fused" if prefers_fused_attention(device, precision) else "plain"
        processes = f", {self.ranks.size} processes" if self.ranks.size > 1 else ""
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        logger.info(
            "%s: %.1f M parameters, %s on %s, %s attention%s",
            *(self.model.spec.title, millions, str(precision).removeprefix("torch."), device, attention, processes),
        )
