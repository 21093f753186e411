"""A config -> a trained run folder. `build_session` and `build_run` are the table of contents of a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from yacs.config import CfgNode

from ...common.errors import UserError, choose
from ...configs import OPTIONS, dump_config, flatten_config, marked_config, parse_config
from ...datasets import build_data, build_test_set_names, build_train_loader, label_map
from ...evaluation import RetrievalResult
from ...loss import HEADS, METRICS, ReidLoss, build_loss
from ...model import build_model, find_classifiers, read_classifiers
from ...solver import OPTIMIZERS, SCHEDULES, build_average, build_optimizers, build_schedule
from ..device import pick_device, pick_precision, place
from ..distributed.consistency import check_agreed
from ..distributed.ddp import device_of, seed_rank
from ..distributed.fsdp import distribute_training
from ..distributed.image_digest import image_digests
from ..distributed.process_group import ALONE, Ranks, joined_ranks
from ..pseudo_labels.clusterings import CLUSTERINGS
from ..pseudo_labels.neck_statistics import build_neck_statistics
from ..pseudo_labels.pseudo_labels import build_num_classes, build_pseudo_labels
from ..runs.checkpoint import (
    FORMAT,
    DamagedCheckpointError,
    NotACheckpointError,
    describe_model,
    load_last,
    load_newest,
    rotated,
    seed_everything,
)
from ..runs.provenance import build_provenance
from ..runs.run_folder import ReadOnlyFolder, RunFolder
from ..runs.signals import Stopped
from ..runs.trackers import check_trackers
from ..scoring.evaluator import build_evaluator
from ..scoring.reranking import RANKINGS
from .epoch_loop import Run, RunOptions, TrainingSession
from .teacher import build_teacher
from .trainer import LogOptions, StepOptions, Trainer
from .training_module import TrainingModule

logger = logging.getLogger(__name__)


class _Resumable(Protocol):
    first_epoch: int


AnyRun = TypeVar("AnyRun", bound=_Resumable)
REGISTRIES: dict[str, Mapping[str, Any]] = {
    "LOSS.ID": HEADS,
    "LOSS.METRIC": METRICS,
    "SOLVER.OPTIMIZER_NAME": OPTIMIZERS,
    "SOLVER.SCHEDULE": SCHEDULES,
    "TEST.RERANK": RANKINGS,
    "UNSUPERVISED.CLUSTERING": CLUSTERINGS,
}


def train(cfg: CfgNode, resume: str | None = None, overwrite: bool = False) -> RetrievalResult | None:
    """Train what `cfg` describes into the folder OUTPUT_DIR and return the last evaluation, None without a test set.

    Args:
        resume: None = a new run; "auto" = resume from OUTPUT_DIR/last.pth if it exists (if it is damaged, with a warning, from the
            newest sound last_epoch_*.pth next to it); else the checkpoint to resume from.
        overwrite: a new run may replace an earlier one in OUTPUT_DIR, once all its parts are built.
    Raises:
        FileExistsError: a new run, and OUTPUT_DIR holds another one.
        UserError: config, data and checkpoint do not fit together.
        Stopped: Ctrl-C or SIGTERM; all that was done is saved.
        RankFailed: another process that torchrun started failed.
    """
    with joined_ranks() as ranks:
        folder, fails = build_folder(cfg, ranks), True
        try:
            result = _train_into(folder, cfg, resume, overwrite, ranks)
            fails = False
            return result
        except Stopped:
            raise
        except KeyboardInterrupt:
            logger.warning("interrupted at once; --resume continues from the last save")
            raise
        except Exception as error:
            if failed := compile_failure(error):
                raise UserError(failed) from error
            raise
        finally:
            folder.close()
            if fails:
                folder.discard()


def _train_into(
    folder: RunFolder, cfg: CfgNode, resume: str | None, overwrite: bool, ranks: Ranks
) -> RetrievalResult | None:
    """Train in a folder that is locked."""
    return prepare_run(
        folder, cfg, resume, overwrite, lambda state: build_run(cfg, folder, state, ranks), ranks
    ).train()


def prepare_run(
    folder: RunFolder,
    cfg: CfgNode,
    resume: str | None,
    overwrite: bool,
    build: Callable[[dict[str, Any] | None], AnyRun],
    ranks: Ranks = ALONE,
    format: str = FORMAT,
) -> AnyRun:
    """Return the run that `build` makes of the state to resume from, with the folder prepared for it.

    Args:
        resume, overwrite: as for `train`, with its errors.
        build: state, or None for a new run -> the run; an earlier run in the folder goes only after it.
        format: of the checkpoints.
    """
    trackers = build_trackers(cfg)
    check_trackers(trackers[0])
    continues = resume == "auto" or (resume is not None and Path(resume).resolve().parent == folder.path.resolve())
    if continues and overwrite:
        raise UserError("--resume continues a run, --overwrite replaces it: choose one")
    if not continues and not overwrite:
        folder.refuse_another_run()
    run = build(read_checkpoint(folder, resume, ranks, format))
    if not continues:
        folder.clear()
    folder.keep_epochs(run.first_epoch - 1)
    folder.write_config(marked_config(cfg))
    folder.open_trackers(*trackers, flatten_config(cfg))
    return run


def build_trackers(cfg: CfgNode) -> tuple[tuple[str, ...], str]:
    """Return the names of the experiment trackers, and that of the project there."""
    return tuple(cfg.LOG.TRACKERS), cfg.LOG.PROJECT


def build_run(cfg: CfgNode, folder: RunFolder, state: dict[str, Any] | None = None, ranks: Ranks = ALONE) -> Run:
    """Return a run: a training session, an evaluator and the folder for the results.

    Args:
        state: checkpoint to resume from.
    """
    session = build_session(cfg, resumed=state is not None, ranks=ranks)
    data, model = session.data, session.module.model
    evaluator = None
    if data.query or session.pseudo_labels is None:
        evaluator = build_evaluator(cfg, data, model, session.device, session.precision, ranks=ranks)
    earlier = state["about"].get("provenance") if state is not None else None
    provenance = build_provenance(cfg, earlier) if ranks.rank == 0 else {}
    describe = partial(describe_model, cfg, data, session.labels, provenance=provenance)
    run = Run(session, evaluator, folder, build_run_options(cfg), describe)
    if state is not None:
        warn_of_changes(parse_config(state["config"]), cfg)
        run.restore(state)
    return run


def build_session(cfg: CfgNode, resumed: bool = False, ranks: Ranks = ALONE) -> TrainingSession:
    """Return data, model, loss, optimizers and trainer.

    Args:
        resumed: the weights will come from a checkpoint; the pretrained file may be gone.
        ranks: the processes that share every batch.
    """
    check_names(flatten_config(cfg))
    device, is_shared = pick_device(cfg.MODEL.DEVICE), ranks.size > 1
    if is_shared:
        device = device_of(ranks, device)
        options = flatten_config(cfg).items()
        check_agreed(lambda: {key: value for key, value in options if not OPTIONS[key].per_machine}, ranks, "settings")
    precision = pick_precision(cfg.SOLVER.PRECISION, device)
    seed_everything(cfg.SOLVER.SEED)

    data = build_data(cfg, once=ranks.from_first)
    labels = label_map(data.train) if cfg.UNSUPERVISED.CLUSTERING == "none" else {}
    if is_shared:
        check_agreed(lambda: image_digests(data), ranks, "images")

    model = build_model(without_weights(cfg) if resumed else cfg, data.train_cameras, data.train_views)
    model = place(model, device, precision)
    teacher = build_teacher(cfg, data, ranks)
    num_classes = build_num_classes(cfg, data, len(labels))
    loss = build_loss(cfg, num_classes, model.embed_dim, model.num_branches, teacher, len(data.train))
    if cfg.MODEL.PRETRAIN_CLASSIFIERS and not resumed:
        _load_classifiers(loss, cfg.MODEL.PRETRAIN_PATH, len(labels))
    module = TrainingModule(model, loss, cfg.DATALOADER.CLIP_FRAMES).to(device)

    cameras, views = model.spec.cameras, model.spec.views
    local = ranks.of_machine() if is_shared else None
    loader = build_train_loader(cfg, data, cameras, views, device, ranks.rank, ranks.size, local)
    if not resumed:
        build_neck_statistics(cfg, data, loader, model, device, precision, ranks)
    average = build_average(cfg, model)
    if is_shared:
        distribute_training(module, average.model if average else None, ranks, device, precision, cfg.SOLVER.FSDP)
    pseudo_labels = build_pseudo_labels(cfg, data, loader, model, loss, device, precision, ranks)
    optimizers = build_optimizers(cfg, model, loss, scaled=precision is torch.float16)
    schedule = build_schedule(cfg, len(loader))
    log = LogOptions(cfg.SOLVER.LOG_PERIOD, [record.path for record in data.train])
    trainer = Trainer(module, optimizers, schedule, loader, build_step_options(cfg, device, precision), log, average)
    if is_shared:
        seed_rank(cfg.SOLVER.SEED, ranks)
    batch_size = cfg.SOLVER.IMS_PER_BATCH // ranks.size * cfg.DATALOADER.CLIP_FRAMES
    is_sharded, compiles = cfg.SOLVER.FSDP, cfg.SOLVER.COMPILE
    return TrainingSession(
        data, labels, module, trainer, device, precision, batch_size, is_sharded, compiles, ranks, pseudo_labels
    )


def build_step_options(cfg: CfgNode, device: torch.device, precision: torch.dtype) -> StepOptions:
    """Return how a step is computed."""
    solver = cfg.SOLVER
    return StepOptions(
        device, precision, solver.MICRO_BATCH, solver.ACCUMULATE, solver.GRAD_CLIP, solver.SKIP_NONFINITE
    )


def build_run_options(cfg: CfgNode) -> RunOptions:
    """Return how long a run trains, when it saves and evaluates, and what it writes."""
    test_sets = build_test_set_names(cfg)
    return RunOptions(
        num_epochs=cfg.SOLVER.MAX_EPOCHS,
        eval_period=cfg.SOLVER.EVAL_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        checkpoint_steps=cfg.SOLVER.CHECKPOINT_STEPS,
        keep_last=cfg.SOLVER.KEEP_LAST,
        counts_skipped=cfg.SOLVER.SKIP_NONFINITE > 0,
        validates=cfg.DATASETS.VAL_IDS > 0,
        patience=cfg.SOLVER.PATIENCE,
        fmr=cfg.TEST.FMR,
        config=dump_config(cfg),
        other_tests=tuple(test_sets) if len(test_sets) > 1 or cfg.DATASETS.VAL_IDS else (),
    )


def build_folder(cfg: CfgNode, ranks: Ranks) -> RunFolder:
    """Return the folder OUTPUT_DIR; only rank 0 writes to it."""
    return RunFolder(cfg.OUTPUT_DIR) if ranks.is_first else ReadOnlyFolder(cfg.OUTPUT_DIR)


def read_checkpoint(
    folder: RunFolder, resume: str | None, ranks: Ranks = ALONE, format: str = FORMAT
) -> dict[str, Any] | None:
    """Return the state to resume from, or None for a new run; all ranks read the same file.

    Args:
        format: of the checkpoints.
    Raises:
        FileNotFoundError: some machines have the run's folder, others do not.
    """
    if resume is None:
        return None
    if resume != "auto":
        return load_last(resume, format)
    found = ranks.gather_objects(folder.last.exists() or bool(rotated(folder.path)))
    if len(set(found)) > 1:
        raise FileNotFoundError(
            f"OUTPUT_DIR: process {found.index(True)} finds a run in its folder, process {found.index(False)} does not (here it is "
            f"{folder.path}); to resume a run, all machines need its folder: put it on a disk that they share, or copy it to each"
        )
    if found[0]:
        return load_newest(folder.last, format)
    logger.info("--resume: no %s yet, starting anew", folder.last)
    return None


def without_weights(cfg: CfgNode) -> CfgNode:
    """Return the config of a model with random weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(["MODEL.PRETRAIN_CHOICE", "none"])
    return cfg


def _load_classifiers(loss: ReidLoss, path: str, num_people: int) -> None:
    try:
        loss.load_classifiers(_classifiers_of(Path(path)))
    except ValueError as error:
        raise UserError(f"MODEL.PRETRAIN_CLASSIFIERS: {path}: {error}; set it to False") from error
    logger.info("%s: the ID classifiers of %d people too", path, num_people)


def _classifiers_of(path: Path) -> dict[str, Tensor]:
    """Return the ID classifiers in a file; those of our last.pth stand with the trained weights, not with the averaged ones."""
    if path.suffix != ".safetensors":
        try:
            return find_classifiers(load_last(path)["trainer"]["module"])
        except (NotACheckpointError, DamagedCheckpointError):  # a file of another project
            pass
    return read_classifiers(path)


def warn_of_changes(old: CfgNode, new: CfgNode) -> None:
    """Log the options that a resumed run has changed."""
    before, after = flatten_config(old), flatten_config(new)
    for key, value in after.items():
        if before[key] != value and not OPTIONS[key].resumable:
            logger.warning("--resume: %s was %s, is now %s", key, before[key], value)


def compile_failure(error: Exception) -> str:
    """Return a message with the remedy if `error` comes from torch.compile, else an empty text."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return ""
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"SOLVER.COMPILE: torch.compile cannot compile this model here ({reason[:300]}); set SOLVER.COMPILE False to train "
        "without it"
    )


def check_names(options: Mapping[str, Any]) -> None:
    """Raise UserError if an option names no entry of its room's dict; before data are read."""
    for key, registry in REGISTRIES.items():
        is_optional = "none" in (OPTIONS[key].choices or ())
        choose(key, options[key], {"none": None, **registry} if is_optional else registry)
