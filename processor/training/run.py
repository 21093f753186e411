"""A config -> a trained run folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm
from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import OPTIONS, dump_config, flatten_config, parse_config
from ...datasets import names_of_test_sets
from ...evaluation import RetrievalResult
from ...model import ReidModel, save_deploy
from ..device import prefers_fused_attention
from ..distributed.consistency import check_agreed, fingerprint
from ..distributed.fsdp import whole_model
from ..distributed.process_group import ALONE, Ranks, joined_ranks
from ..runs.checkpoint import load_last, load_newest, rotate, rotated, save_last
from ..runs.checkpoint_metadata import describe_model
from ..runs.run_folder import ReadOnlyFolder, RunFolder
from ..runs.signals import Stopped, StopSignals
from ..scoring.evaluator import build_evaluator
from ..scoring.result_tables import result_table
from ..scoring.thresholds import try_to_calibrate
from .compile import compile_failure
from .memory_estimate import report_memory
from .session import Learner

logger = logging.getLogger(__name__)


def train(cfg: CfgNode, resume: str | None = None, overwrite: bool = False) -> RetrievalResult:
    """Train what `cfg` describes into the folder OUTPUT_DIR and return the last evaluation.

    Args:
        resume: None = a new run; "auto" = go on from OUTPUT_DIR/last.pth if it is there (if it is damaged, with a warning from the
            newest sound last_epoch_*.pth beside it); else the file to go on from.
        overwrite: a new run may replace an earlier one in OUTPUT_DIR, once all its parts are built.
    Raises:
        FileExistsError: a new run, and OUTPUT_DIR holds another one.
        ValueError: config, data and checkpoint do not fit together.
        Stopped: Ctrl-C or SIGTERM; all that was done is saved.
        RankFailed: another process that torchrun started failed.
    """
    with joined_ranks() as ranks:
        return _train(cfg, resume, overwrite, ranks)


def _train(cfg: CfgNode, resume: str | None, overwrite: bool, ranks: Ranks) -> RetrievalResult:
    folder = RunFolder(cfg.OUTPUT_DIR) if ranks.is_first else ReadOnlyFolder(cfg.OUTPUT_DIR)
    continues = resume == "auto" or (resume is not None and Path(resume).resolve().parent == folder.path.resolve())
    try:
        if continues and overwrite:
            raise UserError("--resume goes on with a run, --overwrite replaces it: choose one")
        if not continues and not overwrite:
            folder.refuse_another_run()
        run = Run(cfg, folder, _read_resume(folder, resume, ranks), ranks)
        if not continues:
            folder.clear()
        folder.keep_epochs(run.first_epoch - 1)
        folder.write_config(dump_config(cfg))
        return run.train()
    except Stopped:
        raise
    except KeyboardInterrupt:
        logger.warning("interrupted at once; --resume goes on from the last save")
        raise
    except Exception as error:
        if failed := compile_failure(error):
            raise UserError(failed) from error
        raise
    finally:
        folder.close()


def _read_resume(folder: RunFolder, resume: str | None, ranks: Ranks) -> dict[str, Any] | None:
    if resume is None:
        return None
    if resume != "auto":
        return load_last(resume)
    sees = ranks.gather_objects(folder.last.exists() or bool(rotated(folder.path)))  # all read the same file, then
    if len(set(sees)) > 1:
        raise FileNotFoundError(
            f"OUTPUT_DIR: process {sees.index(True)} finds a run in its folder, process {sees.index(False)} does not (here it is "
            f"{folder.path}); to go on with a run, all machines need its folder: put it on a disk that they share, or copy it to each"
        )
    if sees[0]:
        return load_newest(folder.last)
    logger.info("--resume: no %s yet, starting anew", folder.last)
    return None


class Run(Learner):
    """A training run: what learns, where it is saved, and how it is evaluated."""

    def __init__(self, cfg: CfgNode, folder: RunFolder, state: dict[str, Any] | None, ranks: Ranks = ALONE) -> None:
        super().__init__(cfg, resumed=state is not None, ranks=ranks)
        self.folder = folder
        self.evaluator = build_evaluator(cfg, self.data, self.module.model, self.device, self.precision, ranks=ranks)
        self.first_epoch, self.best = 1, 0.0
        self.signals = StopSignals()
        self._row: dict[str, float] | None = None  # of an epoch that is trained, and perhaps not evaluated
        self._saved_at = 0  # batches of this epoch
        if state is not None:
            self._restore(state)

    def _restore(self, state: dict[str, Any]) -> None:
        _warn_of_changes(parse_config(state["config"]), self.cfg)
        self._check_people(state)
        self.trainer.load_state_dict(state["trainer"])
        self.first_epoch, self._row = state["epoch"] + 1, state.get("row")
        if self.ranks.from_first(self.folder.best.exists):  # else the best so far lies in another run's folder
            self.best = state["best"]
        progress, inside = self.trainer.progress, ""
        if progress.epoch == self.first_epoch:
            self.trainer.check_place()
            inside = f" and {progress.batches} of {len(self.trainer.loader)} iterations"
        weights, done = state["trainer"]["module"], {"epochs": state["epoch"], "iterations": progress.batches}
        check_agreed(
            lambda: done | {name: fingerprint(value) for name, value in weights.items()}, self.ranks, "checkpoints"
        )
        logger.info("resumed after epoch %d of %d%s", state["epoch"], self.cfg.SOLVER.MAX_EPOCHS, inside)

    def _check_people(self, state: dict[str, Any]) -> None:
        """Raise ValueError if the classifier's rows or the camera table's rows would now mean somebody else."""
        about = describe_model(self.cfg, self.data, self.labels, {})
        cameras = (tuple(state["spec"]["cameras"]), self.module.model.spec.cameras)
        people = [{key: side[key] for key in ("labels", "people")} for side in (state["about"], about)]
        if people[0] != people[1] or cameras[0] != cameras[1]:
            raise UserError(
                f"--resume: the checkpoint was trained on {len(state['about']['labels'])} people and {len(cameras[0])} cameras, "
                f"the training set now has {len(self.labels)} and {len(cameras[1])}, or others; go back to its DATASETS options"
            )

    @property
    def deployed(self) -> ReidModel:
        """The model that is evaluated and shipped: the averaged weights where there are any; whole on every process."""
        average = self.trainer.average
        model = cast(ReidModel, average.model) if average is not None else self.module.model
        return whole_model(model, self.device)

    def train(self) -> RetrievalResult:
        """Train what is left, evaluating and saving on the way; return the last evaluation.

        Raises:
            Stopped: a signal came; all that was done is saved.
        """
        self._announce()
        if not self.cfg.SOLVER.FSDP:  # which has but a share of everything on each device
            report_memory(self.trainer, self.cfg.SOLVER.IMS_PER_BATCH // self.ranks.size, self.cfg.INPUT.SIZE_TRAIN)
        self.compile()
        with self.signals:
            result = self._finish_epoch()
            result = self._train_epochs() or result
        if result is None:
            logger.info("nothing left to train: %d epochs are done", self.cfg.SOLVER.MAX_EPOCHS)
            result = self.evaluator(self.deployed)
        logger.info("%s", result_table({self.data.evaluated: result}))
        logger.info("run folder: %s", self.folder.path)
        self._announce_other_tests()
        return result

    def _finish_epoch(self) -> RetrievalResult | None:
        """Evaluate and log a trained epoch whose numbers are missing: the earlier process ended before it could."""
        row = self._row
        if row is None or self.ranks.from_first(lambda: self.folder.has_epoch(int(row["epoch"]))):
            return None
        return self._close_epoch(row)

    def _train_epochs(self) -> RetrievalResult | None:
        epochs, length, result = self.cfg.SOLVER.MAX_EPOCHS, len(self.trainer.loader), None
        done = (self.first_epoch - 1) * length + self.trainer.progress.of_epoch(self.first_epoch).batches
        with tqdm(
            total=epochs * length, initial=done, desc="train", unit="it", disable=self._is_mute, smoothing=0.05
        ) as bar:
            for epoch in range(self.first_epoch, epochs + 1):
                result = self._epoch(epoch, bar)
        return result

    def _epoch(self, epoch: int, bar: tqdm) -> RetrievalResult | None:
        self._saved_at = self.trainer.progress.of_epoch(epoch).batches
        row: dict[str, float] = {"epoch": epoch, **self.trainer.train_epoch(epoch, bar, self._between_steps)}
        row["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = self.trainer.progress.seconds
        if self.cfg.SOLVER.SKIP_NONFINITE:
            row["skipped"] = self.trainer.progress.skipped
        return self._close_epoch(row)

    @property
    def _is_mute(self) -> bool | None:
        """Whether to show no progress bar; None = none where there is no terminal."""
        return None if self.ranks.is_first else True

    def should_stop(self) -> bool:
        """Whether to stop before the next step; the same on all processes, which have to ask together."""
        return self.ranks.any(self.signals.asked)

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Raise Stopped, wherever a signal finds the body; before the body where several processes need each other in it."""
        if self.ranks.size == 1:
            with self.signals.at_once():
                yield
        elif self.should_stop():
            raise self.signals.stop()
        else:
            yield

    def _between_steps(self) -> None:
        """Stop if that was asked for; save if it is time. The end of an epoch is not between its steps."""
        done, steps = self.trainer.progress.batches, self.cfg.SOLVER.CHECKPOINT_STEPS
        if done == len(self.trainer.loader):
            return
        stops = self.should_stop()
        if stops or (steps and done - self._saved_at >= steps):
            self._save_last(self.trainer.progress.epoch - 1)
            self._saved_at = done
        if stops:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        self.ranks.wait()  # where one process is gone torchrun stops the others, and the first may still be saving
        stop, progress = self.signals.stop(), self.trainer.progress
        logger.warning(
            "stopped by %s in epoch %d, after %d of %d iterations; saved in %s, go on with the same command and --resume",
            *(stop, progress.epoch, progress.batches, len(self.trainer.loader), self.folder.last),
        )
        return stop

    def _close_epoch(self, row: dict[str, float]) -> RetrievalResult | None:
        """Save, evaluate and log a trained epoch."""
        epoch, self._row = int(row["epoch"]), dict(row)
        saves, best, result = self._is_due(epoch, self.cfg.SOLVER.CHECKPOINT_PERIOD), self.best, None
        evaluates = self._is_due(epoch, self.cfg.SOLVER.EVAL_PERIOD)
        if saves:
            self._save_epoch(epoch)  # before the evaluation: should that fail, the epoch is not lost
        elif evaluates and self.ranks.size > 1:
            self._save_last(epoch)  # several processes evaluate to the end; torchrun kills them 30 s after a signal
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
        logger.info("%s", _epoch_line(row, self.cfg.SOLVER.MAX_EPOCHS))
        return result

    def _is_due(self, epoch: int, period: int) -> bool:
        return epoch % period == 0 or epoch == self.cfg.SOLVER.MAX_EPOCHS

    def _evaluate(self, epoch: int, row: dict[str, float]) -> RetrievalResult:
        """Evaluate; keep the best epoch if there is a validation split, else the latest: the test set chooses nothing."""
        model = self.deployed
        features = self.evaluator.extract(model)
        result = self.evaluator.rank(features)
        row.update(result.summary())
        validates = self.cfg.DATASETS.VAL_IDS > 0
        if result.mAP >= self.best or not validates:
            self.best = result.mAP if validates else 0.0
            if features is not None:
                about = describe_model(self.cfg, self.data, self.labels, {"epoch": epoch, **result.summary()})
                calibration = try_to_calibrate(features, self.cfg.TEST.FMR) if validates else None
                if calibration:
                    about["threshold"] = calibration.to_dict()
                save_deploy(self.folder.best, model, about)
        return result

    def _save_epoch(self, epoch: int) -> None:
        self._save_last(epoch)
        if self.ranks.is_first:
            rotate(self.folder.last, epoch, self.cfg.SOLVER.KEEP_LAST)

    def _save_last(self, epoch: int) -> None:
        """Write last.pth, with `epoch` epochs complete and perhaps a part of the next.

        Raises:
            NonFiniteLoss: the weights are no numbers; OSError: it cannot be written. The earlier file is intact.
        """
        self.trainer.check_weights()
        state = {
            "epoch": epoch,
            "best": self.best,
            "row": self._row,
            "config": dump_config(self.cfg),
            "about": describe_model(self.cfg, self.data, self.labels, {"epoch": epoch}),
            "trainer": self.trainer.state_dict(),
        }
        if self.ranks.is_first:
            save_last(self.folder.last, {**state, "spec": self.module.model.spec.to_dict()})

    def _announce_other_tests(self) -> None:
        names = names_of_test_sets(self.cfg)
        if len(names) > 1 or self.cfg.DATASETS.VAL_IDS:
            logger.info("tools/test.py --weights %s evaluates on %s", self.folder.best, ", ".join(names))

    def _announce(self) -> None:
        data = self.data
        parameters = sum(p.numel() for p in self.module.model.parameters())
        logger.info(
            "%s: %d training images of %d people, %d queries, %d gallery",
            data.name,
            len(data.train),
            len(self.labels),
            len(data.query),
            len(data.gallery),
        )
        logger.info(
            "%s: %.1f M parameters, %s on %s, %s attention%s",
            self.module.model.spec.title,
            parameters / 1e6,
            str(self.precision).removeprefix("torch."),
            self.device,
            "fused" if prefers_fused_attention(self.device, self.precision) else "plain",
            f", {self.ranks.size} processes" if self.ranks.size > 1 else "",
        )


def _epoch_line(row: dict[str, float], epochs: int) -> str:
    parts = [
        f"epoch {row['epoch']}/{epochs}",
        " ".join(f"{name} {row[name]:.3f}" for name in ("loss", "id", "triplet", "center") if name in row),
        f"accuracy {100 * row['accuracy']:.1f}%" if "accuracy" in row else "",
        f"lr {row['lr']:.2e}",
        f"{row['images_per_second']:.0f} img/s",
        f"{row['seconds']:.1f} s",
        f"mAP {100 * row['mAP']:.1f}%  Rank-1 {100 * row['Rank-1']:.1f}%" if "mAP" in row else "",
    ]
    return "  ".join(part for part in parts if part)


def _warn_of_changes(old: CfgNode, new: CfgNode) -> None:
    before, after = flatten_config(old), flatten_config(new)
    for key, value in after.items():
        if before[key] != value and not OPTIONS[key].resumable:
            logger.warning("--resume: %s was %s, is now %s", key, before[key], value)
