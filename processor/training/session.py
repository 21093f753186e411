"""A config -> everything that learns: data, model, loss, optimizers, trainer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import flatten_config
from ...datasets import Record, ReidData, build_data, build_train_loader, label_map
from ...loss import ReidLoss, build_loss
from ...model import build_model, read_classifiers
from ...solver import build_average, build_optimizers, build_schedule
from ..device import pick_device, pick_precision, place
from ..distributed.consistency import check_agreed
from ..distributed.ddp import device_of, seed_rank
from ..distributed.fsdp import distribute_training
from ..distributed.process_group import ALONE, Ranks
from ..runs.rng import seed_everything
from .compile import compile_backbone
from .micro_batches import build_passes
from .trainer import Trainer
from .training_module import TrainingModule

logger = logging.getLogger(__name__)

OF_A_MACHINE = (  # options that may differ where one run has several machines
    "OUTPUT_DIR",
    "DATASETS.ROOT_DIR",
    "DATASETS.MANIFEST",
    "DATASETS.DISTRACTORS",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE",
    "MODEL.PRETRAIN_PATH",
)


class Learner:
    """The parts that one step of training needs, built from a config.

    Args:
        resumed: the weights will come from a checkpoint; the pretrained file may be gone.
        ranks: the processes that share every batch.
    Raises:
        ValueError: config and data do not fit together.
    """

    def __init__(self, cfg: CfgNode, resumed: bool = False, ranks: Ranks = ALONE) -> None:
        self.cfg, self.ranks = cfg, ranks
        self.device = device_of(ranks, pick_device(cfg.MODEL.DEVICE))
        self.precision: torch.dtype = pick_precision(cfg.SOLVER.PRECISION, self.device)
        seed_everything(cfg.SOLVER.SEED)
        check_agreed(lambda: _settings(cfg), ranks, "settings")
        self.data = build_data(cfg, once=ranks.from_first)
        check_agreed(lambda: _images(self.data), ranks, "images")
        self.labels = label_map(self.data.train)
        self.module = self._build_module(resumed).to(self.device)
        self.trainer = self._build_trainer()
        seed_rank(cfg.SOLVER.SEED, ranks)

    def compile(self) -> None:
        """Compile the backbone if the config asks for it; before the first step, and after whatever else runs the model."""
        if self.cfg.SOLVER.COMPILE:
            compile_backbone(self.module.model)

    def _build_module(self, resumed: bool) -> TrainingModule:
        cfg = self.cfg.clone()
        if resumed:
            cfg.defrost()
            cfg.MODEL.PRETRAIN_CHOICE = "none"
        model = place(build_model(cfg, self.data.train_cameras, self.data.train_views), self.device, self.precision)
        loss = build_loss(cfg, len(self.labels), model.embed_dim, model.num_branches)
        if cfg.MODEL.PRETRAIN_CLASSIFIERS and not resumed:
            self._load_classifiers(loss)
        return TrainingModule(model, loss)

    def _load_classifiers(self, loss: ReidLoss) -> None:
        path = self.cfg.MODEL.PRETRAIN_PATH
        try:
            loss.load_classifiers(read_classifiers(path))
        except ValueError as error:
            raise UserError(f"MODEL.PRETRAIN_CLASSIFIERS: {path}: {error}; set it to False") from error
        logger.info("%s: the ID classifiers of %d people too", path, len(self.labels))

    def _build_trainer(self) -> Trainer:
        cfg, model, ranks = self.cfg, self.module.model, self.ranks
        rows = (model.spec.cameras, model.spec.views)
        loader = build_train_loader(
            cfg, self.data, *rows, self.device, ranks.rank, ranks.size, local=ranks.of_machine()
        )
        average = build_average(cfg, model)
        distribute_training(
            self.module, average.model if average else None, ranks, self.device, self.precision, cfg.SOLVER.FSDP
        )
        return Trainer(
            self.module,
            build_optimizers(cfg, model, self.module.loss, scaled=self.precision is torch.float16),
            build_schedule(cfg, len(loader)),
            loader,
            device=self.device,
            precision=self.precision,
            passes=build_passes(cfg, ranks.size),
            paths=[record.path for record in self.data.train],
            average=average,
            accumulate=cfg.SOLVER.ACCUMULATE,
            grad_clip=cfg.SOLVER.GRAD_CLIP,
            log_period=cfg.SOLVER.LOG_PERIOD,
            skip_nonfinite=cfg.SOLVER.SKIP_NONFINITE,
            ranks=ranks,
        )


def _settings(cfg: CfgNode) -> dict[str, object]:
    return {key: value for key, value in flatten_config(cfg).items() if not key.startswith(OF_A_MACHINE)}


def _images(data: ReidData) -> dict[str, str]:
    """Return what tells data sets apart, wherever their folders are."""
    sides = {"training images": data.train, "queries": data.query, "gallery images": data.gallery}
    return {name: f"{len(records)} ({_digest(records)})" for name, records in sides.items()}


def _digest(records: Sequence[Record]) -> str:
    told = hashlib.sha256()
    for record in records:
        told.update(f"{Path(record.path).name}\n{record.pid} {record.camid} {record.viewid}\n".encode())
    return told.hexdigest()[:12]
