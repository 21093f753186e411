"""A config -> a pre-trained backbone in a run folder. `build_pretraining` is the table of contents of a pre-training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from yacs.config import CfgNode

from ...common.errors import UserError
from ...configs import dump_config, parse_config
from ...datasets import ReidData, build_data, build_multi_crop, build_raw_loader
from ...datasets.records import UNLABELLED
from ...model import ReidModel, build_model
from ...solver import build_schedule, fused_or_none
from ..device import pick_device, pick_precision, place
from ..distributed.image_digest import image_digest
from ..distributed.process_group import ALONE
from ..runs.checkpoint import describe_model, seed_everything
from ..runs.provenance import build_provenance
from ..runs.run_folder import RunFolder
from ..scoring.evaluator import Evaluator, build_evaluator
from ..training.run import build_folder, prepare_run, warn_of_changes, without_weights
from .pretraining_run import FORMAT, PretrainingOptions, PretrainingRun
from .pretraining_schedule import TeacherSchedule
from .pretraining_trainer import PretrainingStep, PretrainingTrainer
from .projection_head import ProjectionHead
from .self_distillation import Branch, SelfDistillation

logger = logging.getLogger(__name__)


def pretrain(cfg: CfgNode, resume: str | None = None, overwrite: bool = False) -> Path:
    """Pre-train what `cfg` describes into the folder OUTPUT_DIR; return the folder.

    Args:
        resume: None = a new run; "auto" = resume from OUTPUT_DIR/last.pth if it exists; else the checkpoint to resume from.
        overwrite: a new run may replace an earlier one in OUTPUT_DIR, once all its parts are built.
    Raises:
        FileExistsError: a new run, and OUTPUT_DIR holds another one.
        UserError: config, data and checkpoint do not fit together.
        Stopped: Ctrl-C or SIGTERM; all that was done is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("vitreid pretrain runs in one process; start it without torchrun")
    folder, fails = build_folder(cfg, ALONE), True
    try:
        prepare_run(folder, cfg, resume, overwrite, partial(build_pretraining, cfg, folder), format=FORMAT).train()
        fails = False
    except KeyboardInterrupt:
        fails = False
        raise
    finally:
        folder.close()
        if fails:
            folder.discard()
    return folder.path


def build_pretraining(cfg: CfgNode, folder: RunFolder, state: dict[str, Any] | None = None) -> PretrainingRun:
    """Return a run: data, model, head, losses, optimizer and evaluator.

    Args:
        state: checkpoint to resume from.
    """
    device = pick_device(cfg.MODEL.DEVICE)
    precision = pick_precision(cfg.SOLVER.PRECISION, device)
    seed_everything(cfg.SOLVER.SEED)
    data = build_data(cfg, unlabelled=True)
    module = build_self_distillation(cfg, resumed=state is not None)
    place(module.student.model, device, precision)
    place(module.teacher.model, device, precision)
    module.to(device)

    loader, multi_crop = build_raw_loader(cfg, data, device), build_multi_crop(cfg)
    optimizer = build_adamw(cfg, module)
    rates = replace(build_schedule(cfg, len(loader)), iters_per_epoch=len(loader))
    step = build_pretraining_step(cfg, device, precision)
    schedule = build_teacher_schedule(cfg)
    trainer = PretrainingTrainer(module, loader, multi_crop, optimizer, rates, schedule, step)

    provenance = build_provenance(cfg, state["provenance"] if state is not None else None)
    describe = partial(describe_model, cfg, data, {}, provenance=provenance)
    evaluator = build_probe(cfg, data, module.teacher.model, device, precision)
    images = image_digest([replace(record, pid=UNLABELLED) for record in data.train])
    run = PretrainingRun(trainer, evaluator, folder, build_pretraining_options(cfg, images), describe)
    if state is not None:
        warn_of_changes(parse_config(state["config"]), cfg)
        run.restore(state)
    _announce(data, module, evaluator, device, precision)
    return run


def _announce(
    data: ReidData, module: SelfDistillation, evaluator: Evaluator | None, device: torch.device, precision: torch.dtype
) -> None:
    probe = (
        f"{len(data.query)} queries and {len(data.gallery)} gallery images of {data.evaluated}" if evaluator else "none"
    )
    logger.info("%s: %d training images, their labels unused; probe: %s", data.name, len(data.train), probe)
    sizes = [
        sum(value.numel() for value in part.parameters()) / 1e6 for part in (module.student.model, module.student.head)
    ]
    logger.info(
        "%s: %.1f M parameters, head %.1f M; %s on %s",
        *(module.student.model.spec.title, *sizes, str(precision).removeprefix("torch."), device),
    )


def build_self_distillation(cfg: CfgNode, resumed: bool = False) -> SelfDistillation:
    """Return student, teacher and losses.

    Args:
        resumed: the weights will come from a checkpoint; the pretrained file may be gone.
    Raises:
        UserError: the backbone is no ViT, or has parts that pre-training does not train.
        MissingPackageError: the package of the losses is missing.
    """
    _build_refusals(cfg)
    options = cfg.PRETRAIN
    model: ReidModel = build_model(without_weights(cfg) if resumed else cfg, ())
    head = ProjectionHead(model.embed_dim, options.HIDDEN_DIM, options.BOTTLENECK_DIM, options.PROTOTYPES)
    return SelfDistillation(
        Branch(model, head),
        method=options.METHOD,
        student_temp=options.STUDENT_TEMP,
        center_momentum=options.CENTER_MOMENTUM,
        patch_weight=options.PATCH_WEIGHT,
    )


def _build_refusals(cfg: CfgNode) -> None:
    """Raise UserError for options that a training follows and pre-training does not, unless they have the value accepted here."""
    parts = {f"MODEL.{name}": cfg.MODEL[name] for name in ("SIE_CAMERA", "SIE_VIEW", "JPM", "PROJECTION")}
    for key, value in parts.items():
        if value:
            raise UserError(
                f"{key}: {value} adds a part that pre-training does not train; leave it out, and set it for the training that starts "
                "from the pre-trained backbone"
            )
    solver = {"OPTIMIZER_NAME": "AdamW", "SCHEDULE": "cosine", "ACCUMULATE": 1, "MICRO_BATCH": 0, "LAYER_DECAY": 1.0}
    averages = {"EMA": 0.0, "SWA_START": 0, "HEAD_EPOCHS": 0, "SKIP_NONFINITE": 0, "FSDP": False, "COMPILE": False}
    colours = {"AUTO_AUGMENT_PROB": 0.0, "LOCAL_GRAY_PROB": 0.0}
    for section, accepted in (("SOLVER", {**solver, **averages}), ("INPUT", colours)):
        for name, value in accepted.items():
            if cfg[section][name] != value:
                raise UserError(
                    f"{section}.{name}: {cfg[section][name]} is for `vitreid train`; for `vitreid pretrain` set it to {value}"
                )


def build_adamw(cfg: CfgNode, module: SelfDistillation) -> AdamW:
    """Return AdamW for the student; biases and other vectors have no weight decay."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for _, parameter in module.trained_parameters():
        groups[parameter.ndim > 1].append(parameter)
    solver = cfg.SOLVER
    fused = fused_or_none(parameter for _, parameter in module.trained_parameters())
    return AdamW(_groups(groups.items(), solver.WEIGHT_DECAY), lr=solver.BASE_LR, fused=fused)


def _groups(parts: Iterable[tuple[bool, list[nn.Parameter]]], decay: float) -> list[dict[str, Any]]:
    return [{"params": params, "weight_decay": decay if decays else 0.0, "decays": decays} for decays, params in parts]


def build_teacher_schedule(cfg: CfgNode) -> TeacherSchedule:
    """Return what changes during pre-training, besides the learning rate."""
    options = cfg.PRETRAIN
    return TeacherSchedule(
        num_epochs=cfg.SOLVER.MAX_EPOCHS,
        momentum=options.MOMENTUM,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_end=options.WEIGHT_DECAY_END,
        warmup_temp=options.WARMUP_TEMP,
        temp=options.TEACHER_TEMP,
        warmup_temp_epochs=options.WARMUP_TEMP_EPOCHS,
    )


def build_pretraining_step(cfg: CfgNode, device: torch.device, precision: torch.dtype) -> PretrainingStep:
    """Return how a step is computed."""
    options = cfg.PRETRAIN
    return PretrainingStep(
        device=device,
        precision=precision,
        grad_clip=cfg.SOLVER.GRAD_CLIP,
        mask_prob=options.MASK_PROB,
        mask_ratio=tuple(options.MASK_RATIO),
        frozen_epochs=options.FREEZE_PROTOTYPES,
        log_period=cfg.SOLVER.LOG_PERIOD,
        seed=cfg.SOLVER.SEED,
    )


def build_pretraining_options(cfg: CfgNode, images: str) -> PretrainingOptions:
    """Return how long a run pre-trains, when it saves and evaluates."""
    return PretrainingOptions(
        num_epochs=cfg.SOLVER.MAX_EPOCHS,
        probe_period=cfg.PRETRAIN.PROBE_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        checkpoint_steps=cfg.SOLVER.CHECKPOINT_STEPS,
        keep_last=cfg.SOLVER.KEEP_LAST,
        images=images,
        config=dump_config(cfg),
    )


def build_probe(
    cfg: CfgNode, data: ReidData, teacher: ReidModel, device: torch.device, precision: torch.dtype
) -> Evaluator | None:
    """Return the evaluator of the teacher; None without labelled people, or with PRETRAIN.PROBE_PERIOD 0."""
    if not cfg.PRETRAIN.PROBE_PERIOD or not data.query:
        return None
    return build_evaluator(cfg, data, teacher, device, precision)
