"""A config -> a trained run folder."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from yacs.config import CfgNode

from ..configs import dump_config, flatten_config, parse_config
from ..datasets import build_data, build_train_loader, label_map, names_of_test_sets
from ..evaluation import RetrievalResult
from ..loss import build_loss
from ..model import ReidModel, build_model, save_deploy
from ..solver import EMA, build_optimizers, build_schedule
from .build import build_evaluator, describe_model, place
from .checkpoint import load_last, save_last, seed_everything
from .device import pick_device, pick_precision
from .module import TrainingModule
from .run_folder import RunFolder
from .tables import result_table
from .thresholds import try_to_calibrate
from .trainer import Trainer

logger = logging.getLogger(__name__)
MAY_CHANGE = (  # on resume, without a word
    "OUTPUT_DIR",
    "SOLVER.LOG_PERIOD",
    "SOLVER.CHECKPOINT_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE",
    "TEST.",
    "MODEL.DEVICE",
    "DATASETS.ROOT_DIR",
)


def train(cfg: CfgNode, resume: str | None = None, overwrite: bool = False) -> RetrievalResult:
    """Train what `cfg` describes into the folder OUTPUT_DIR and return the last evaluation.

    Args:
        resume: None = a new run; "auto" = go on from OUTPUT_DIR/last.pth if it is there; else the last.pth to go on from.
        overwrite: a new run may replace an earlier one in OUTPUT_DIR, once all its parts are built.
    Raises:
        FileExistsError: a new run, and OUTPUT_DIR holds another one.
        ValueError: config, data and checkpoint do not fit together.
    """
    _refuse_several_processes()
    folder = RunFolder(cfg.OUTPUT_DIR)
    continues = resume == "auto" or (resume is not None and Path(resume).resolve() == folder.last.resolve())
    try:
        if continues and overwrite:
            raise ValueError("--resume goes on with a run, --overwrite replaces it: choose one")
        if not continues and not overwrite:
            folder.refuse_another_run()
        run = Run(cfg, folder, _read_resume(folder, resume))
        if not continues:
            folder.clear()
        folder.keep_epochs(run.first_epoch - 1)
        folder.write_config(dump_config(cfg))
        return run.train()
    except KeyboardInterrupt:
        logger.warning("interrupted; continue with --resume")
        raise
    finally:
        folder.close()


def _refuse_several_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "WORLD_SIZE: training on several processes is not supported yet; start one process, without torchrun"
        )


def _read_resume(folder: RunFolder, resume: str | None) -> dict[str, Any] | None:
    if resume is None:
        return None
    if resume != "auto":
        return load_last(resume)
    if folder.last.exists():
        return load_last(folder.last)
    logger.info("--resume: no %s yet, starting anew", folder.last)
    return None


class Run:
    """All the parts of one training run, built from its config."""

    def __init__(self, cfg: CfgNode, folder: RunFolder, state: dict[str, Any] | None) -> None:
        self.cfg, self.folder = cfg, folder
        self.device = pick_device(cfg.MODEL.DEVICE)
        self.precision = pick_precision(cfg.SOLVER.PRECISION, self.device)
        seed_everything(cfg.SOLVER.SEED)
        self.data = build_data(cfg)
        self.labels = label_map(self.data.train)
        self.module = self._build_module(resumed=state is not None).to(self.device)
        self.trainer = self._build_trainer()
        self.evaluator = build_evaluator(cfg, self.data, self.module.model, self.device, self.precision)
        self.first_epoch, self.best = 1, 0.0
        if state is not None:
            self._restore(state)

    def _build_module(self, resumed: bool) -> TrainingModule:
        cfg = self.cfg.clone()
        if resumed:  # the weights come from the checkpoint, the pretrained file may be gone
            cfg.defrost()
            cfg.MODEL.PRETRAIN_CHOICE = "none"
        model = place(build_model(cfg, self.data.train_cameras, self.data.train_views), self.device)
        loss = build_loss(cfg, len(self.labels), model.embed_dim, model.num_branches)
        return TrainingModule(model, loss)

    def _build_trainer(self) -> Trainer:
        cfg, model = self.cfg, self.module.model
        loader = build_train_loader(cfg, self.data, model.spec.cameras, model.spec.views, self.device)
        return Trainer(
            self.module,
            build_optimizers(cfg, model, self.module.loss),
            build_schedule(cfg, len(loader)),
            loader,
            device=self.device,
            precision=self.precision,
            paths=[record.path for record in self.data.train],
            ema=EMA(model, cfg.SOLVER.EMA) if cfg.SOLVER.EMA else None,
            accumulate=cfg.SOLVER.ACCUMULATE,
            grad_clip=cfg.SOLVER.GRAD_CLIP,
            log_period=cfg.SOLVER.LOG_PERIOD,
        )

    def _restore(self, state: dict[str, Any]) -> None:
        _warn_of_changes(parse_config(state["config"]), self.cfg)
        self._check_people(state)
        self.trainer.load_state_dict(state["trainer"])
        self.first_epoch, self.best = state["epoch"] + 1, state["best"]
        logger.info("resumed after epoch %d of %d", state["epoch"], self.cfg.SOLVER.MAX_EPOCHS)

    def _check_people(self, state: dict[str, Any]) -> None:
        """Raise ValueError if the classifier's rows or the camera table's rows would now mean somebody else."""
        about = describe_model(self.cfg, self.data, self.labels, {})
        cameras = (tuple(state["spec"]["cameras"]), self.module.model.spec.cameras)
        people = [{key: side[key] for key in ("labels", "people")} for side in (state["about"], about)]
        if people[0] != people[1] or cameras[0] != cameras[1]:
            raise ValueError(
                f"--resume: the checkpoint was trained on {len(state['about']['labels'])} people and {len(cameras[0])} cameras, "
                f"the training set now has {len(self.labels)} and {len(cameras[1])}, or others; go back to its DATASETS options"
            )

    @property
    def deployed(self) -> ReidModel:
        """The model that is evaluated and shipped: the averaged weights where there are any."""
        return self.trainer.ema.model if self.trainer.ema is not None else self.module.model

    def train(self) -> RetrievalResult:
        """Train the epochs that are left, evaluating and saving on the way; return the last evaluation."""
        self._announce()
        epochs, result = self.cfg.SOLVER.MAX_EPOCHS, None
        total, done = epochs * len(self.trainer.loader), (self.first_epoch - 1) * len(self.trainer.loader)
        with tqdm(total=total, initial=done, desc="train", unit="it", disable=None, smoothing=0.05) as bar:
            for epoch in range(self.first_epoch, epochs + 1):
                result = self._epoch(epoch, bar)
        if result is None:
            logger.info("nothing left to train: %d epochs are done", epochs)
            result = self.evaluator(self.deployed)
        logger.info("%s", result_table({self.data.evaluated: result}))
        logger.info("run folder: %s", self.folder.path)
        self._announce_other_tests()
        return result

    def _epoch(self, epoch: int, bar: tqdm) -> RetrievalResult | None:
        start = time.perf_counter()
        row: dict[str, float] = {"epoch": epoch, **self.trainer.train_epoch(epoch, bar)}
        row["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = time.perf_counter() - start
        saves, best = self._is_due(epoch, self.cfg.SOLVER.CHECKPOINT_PERIOD), self.best
        if saves:
            self._save_last(epoch)  # before the evaluation: should that fail, the epoch is not lost
        result = self._evaluate(epoch, row) if self._is_due(epoch, self.cfg.SOLVER.EVAL_PERIOD) else None
        if saves and self.best != best:
            self._save_last(epoch)
        self.folder.write_epoch(row)
        logger.info("%s", _epoch_line(row, self.cfg.SOLVER.MAX_EPOCHS))
        return result

    def _is_due(self, epoch: int, period: int) -> bool:
        return epoch % period == 0 or epoch == self.cfg.SOLVER.MAX_EPOCHS

    def _evaluate(self, epoch: int, row: dict[str, float]) -> RetrievalResult:
        """Evaluate; keep the best epoch if there is a validation split, else the latest: the test set chooses nothing."""
        features = self.evaluator.extract(self.deployed)
        result = self.evaluator.rank(features)
        row.update(result.summary())
        validates = self.cfg.DATASETS.VAL_IDS > 0
        if result.mAP >= self.best or not validates:
            self.best = result.mAP if validates else 0.0
            about = describe_model(self.cfg, self.data, self.labels, {"epoch": epoch, **result.summary()})
            calibration = try_to_calibrate(features, self.cfg.TEST.FMR) if validates else None
            if calibration:
                about["threshold"] = calibration.to_dict()
            save_deploy(self.folder.best, self.deployed, about)
        return result

    def _save_last(self, epoch: int) -> None:
        about = describe_model(self.cfg, self.data, self.labels, {"epoch": epoch})
        state = {
            "epoch": epoch,
            "best": self.best,
            "config": dump_config(self.cfg),
            "about": about,
            "trainer": self.trainer.state_dict(),
        }
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
            "%s: %.1f M parameters, %s on %s",
            self.cfg.MODEL.NAME,
            parameters / 1e6,
            str(self.precision).removeprefix("torch."),
            self.device,
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
        if before[key] != value and not key.startswith(MAY_CHANGE):
            logger.warning("--resume: %s was %s, is now %s", key, before[key], value)
