"""Checks of options that depend on each other."""

from __future__ import annotations

import re

from yacs.config import CfgNode

from ..common.errors import UserError
from ..labels.name_pattern import NamePattern


def check_config(cfg: CfgNode) -> None:
    """Raise ValueError, naming the keys, for options that do not go together."""
    _check_batch(cfg)
    _check_schedule(cfg)
    _check_loss(cfg)
    _check_model(cfg)
    _check_data(cfg)
    _check_unsupervised(cfg)
    if not cfg.OUTPUT_DIR.strip():
        raise UserError(
            "OUTPUT_DIR: empty, so the run's files would lie in the current folder; name a folder, e.g. logs/run"
        )


def _check_batch(cfg: CfgNode) -> None:
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if batch < 2 and cfg.MODEL.NECK == "bnneck":
        raise UserError("SOLVER.IMS_PER_BATCH: the batch norm of MODEL.NECK bnneck needs at least 2 images, got 1")
    if cfg.DATALOADER.SAMPLER == "pk" and batch % instances:
        near = sorted({max(batch // instances, 1) * instances, (batch // instances + 1) * instances})
        raise UserError(
            f"SOLVER.IMS_PER_BATCH: {batch} images do not divide into DATALOADER.NUM_INSTANCE {instances} images per "
            f"identity; take {' or '.join(map(str, near))}"
        )


def _check_schedule(cfg: CfgNode) -> None:
    if cfg.SOLVER.WARMUP_EPOCHS >= cfg.SOLVER.MAX_EPOCHS and cfg.SOLVER.WARMUP_EPOCHS > 0:
        raise UserError(
            f"SOLVER.WARMUP_EPOCHS: {cfg.SOLVER.WARMUP_EPOCHS} must be smaller than SOLVER.MAX_EPOCHS "
            f"({cfg.SOLVER.MAX_EPOCHS}); for a short run set both, e.g. SOLVER.WARMUP_EPOCHS 0"
        )
    if list(cfg.SOLVER.STEPS) != sorted(set(cfg.SOLVER.STEPS)):
        raise UserError(f"SOLVER.STEPS: {cfg.SOLVER.STEPS} must rise")
    if cfg.SOLVER.PATIENCE and not cfg.DATASETS.VAL_IDS:
        raise UserError(
            f"SOLVER.PATIENCE: {cfg.SOLVER.PATIENCE} evaluations would stop the training by its test set, which makes its figures "
            "too good; hold people out with DATASETS.VAL_IDS, e.g. 100, or set it to 0"
        )
    for key in ("SWA_START", "HEAD_EPOCHS"):
        if cfg.SOLVER[key] > cfg.SOLVER.MAX_EPOCHS - (key == "HEAD_EPOCHS"):
            raise UserError(
                f"SOLVER.{key}: {cfg.SOLVER[key]} leaves nothing of SOLVER.MAX_EPOCHS {cfg.SOLVER.MAX_EPOCHS}; take a smaller "
                "number, or 0 for none"
            )
    if cfg.SOLVER.HEAD_EPOCHS and cfg.SOLVER.FSDP:
        raise UserError(
            f"SOLVER.HEAD_EPOCHS: {cfg.SOLVER.HEAD_EPOCHS} epochs without a backward pass through the backbone do not go with "
            "SOLVER.FSDP; train the head in a run without FSDP, and continue from its weights (MODEL.PRETRAIN_PATH)"
        )
    if cfg.SOLVER.HEAD_EPOCHS and cfg.LOSS.ID == "none":
        raise UserError(
            f"SOLVER.HEAD_EPOCHS: {cfg.SOLVER.HEAD_EPOCHS} epochs with LOSS.ID none have nothing to train, the {cfg.LOSS.METRIC} "
            "loss has no weights; set it to 0, or LOSS.ID"
        )
    if cfg.SOLVER.SWA_START and cfg.SOLVER.EMA:
        raise UserError(
            f"SOLVER.SWA_START: {cfg.SOLVER.SWA_START} and SOLVER.EMA {cfg.SOLVER.EMA:g} are two ways to average the weights; "
            "set one of them to 0"
        )


def _check_loss(cfg: CfgNode) -> None:
    against_clusters = cfg.UNSUPERVISED.CLUSTERING != "none" and cfg.UNSUPERVISED.WEIGHT > 0
    if cfg.LOSS.ID == "none" and cfg.LOSS.METRIC == "none" and not cfg.LOSS.DISTILL and not against_clusters:
        raise UserError("LOSS.ID and LOSS.METRIC are both none: nothing to train on; set one of them, or LOSS.DISTILL")
    if cfg.LOSS.DISTILL and not cfg.LOSS.DISTILL_WEIGHT and not cfg.LOSS.RELATION_WEIGHT:
        raise UserError(
            f"LOSS.DISTILL: {cfg.LOSS.DISTILL} teaches nothing with LOSS.DISTILL_WEIGHT 0 and LOSS.RELATION_WEIGHT 0; set one of them, "
            "or LOSS.DISTILL ''"
        )
    metric = cfg.LOSS.METRIC
    if cfg.LOSS.MEMORY and metric == "none":
        raise UserError(
            f"LOSS.MEMORY: {cfg.LOSS.MEMORY} past embeddings are for the metric loss, and LOSS.METRIC is none; set one or the other"
        )
    if metric == "none" or cfg.DATALOADER.SAMPLER != "pk":
        return
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if instances < 2:
        raise UserError(f"DATALOADER.NUM_INSTANCE: the {metric} loss needs at least 2 images per identity, got 1")
    if batch < 2 * instances:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH: {batch} images are one identity of DATALOADER.NUM_INSTANCE {instances}; the "
            f"{metric} loss needs two, take {2 * instances} or more"
        )


def _check_model(cfg: CfgNode) -> None:
    model = cfg.MODEL
    if model.CLIP_POOL == "attention" and cfg.DATALOADER.CLIP_FRAMES < 2:
        raise UserError(
            "MODEL.CLIP_POOL: attention weighs the frames of a clip, and with DATALOADER.CLIP_FRAMES 1 it would learn nothing; set that to "
            "2 or more, or MODEL.CLIP_POOL to mean"
        )
    if model.PRETRAIN_CLASSIFIERS and (model.PRETRAIN_CHOICE != "self" or cfg.LOSS.ID == "none"):
        raise UserError(
            f"MODEL.PRETRAIN_CLASSIFIERS: goes with MODEL.PRETRAIN_CHOICE self and an ID loss, got {model.PRETRAIN_CHOICE} and "
            f"LOSS.ID {cfg.LOSS.ID}; set it to False, or those"
        )
    patch = re.match(r"(?:vit|deit)_.*patch(\d+)", model.NAME)  # other models have a fixed stride
    pixels = model.PATCH_SIZE or int(patch[1] if patch else 0)
    if patch and model.STEM == "patch" and max(model.STRIDE_SIZE) > pixels:
        raise UserError(
            f"MODEL.STRIDE_SIZE: {model.STRIDE_SIZE} is larger than the patch of {model.NAME} ({pixels} pixels), "
            "pixels between patches would be lost; take the patch size or less"
        )
    if patch and cfg.INPUT.SIZE_TEST != cfg.INPUT.SIZE_TRAIN:
        raise UserError(
            f"INPUT.SIZE_TEST: {cfg.INPUT.SIZE_TEST} differs from INPUT.SIZE_TRAIN {cfg.INPUT.SIZE_TRAIN}; "
            f"{model.NAME} has position embeddings for one size: set both to the same size"
        )
    if model.EMBED_DIM and model.NUM_HEADS and model.EMBED_DIM % model.NUM_HEADS:
        raise UserError(
            f"MODEL.EMBED_DIM: {model.EMBED_DIM} features do not divide into MODEL.NUM_HEADS {model.NUM_HEADS}"
        )
    if model.PRETRAIN_CHOICE == "self" and not model.PRETRAIN_PATH:
        raise UserError("MODEL.PRETRAIN_PATH: MODEL.PRETRAIN_CHOICE self needs the checkpoint's path here")
    if model.SIE_FALLBACK == "unknown" and model.SIE_DROPOUT == 0 and (model.SIE_CAMERA or model.SIE_VIEW):
        raise UserError(
            "MODEL.SIE_DROPOUT: SIE_FALLBACK unknown trains its row on hidden cameras; set this above 0, e.g. 0.1"
        )


def _check_data(cfg: CfgNode) -> None:
    NamePattern("DATASETS.CAMERA_PATTERN", cfg.DATASETS.CAMERA_PATTERN)
    if not cfg.DATASETS.NAMES:
        raise UserError("DATASETS.NAMES: no training set; name one, e.g. DATASETS.NAMES market1501")
    if cfg.DATASETS.BALANCE != "none" and cfg.DATALOADER.SAMPLER != "pk":
        raise UserError(
            f"DATASETS.BALANCE: {cfg.DATASETS.BALANCE} needs DATALOADER.SAMPLER pk, got {cfg.DATALOADER.SAMPLER}; set one of them"
        )
    if "manifest" in (*cfg.DATASETS.NAMES, *cfg.DATASETS.TEST, *cfg.UNSUPERVISED.SOURCE) and not cfg.DATASETS.MANIFEST:
        raise UserError("DATASETS.MANIFEST: the data set 'manifest' needs its CSV file here")


def _check_unsupervised(cfg: CfgNode) -> None:
    """Refuse what needs the names of people, or classes that do not change."""
    clustering, source = cfg.UNSUPERVISED.CLUSTERING, cfg.UNSUPERVISED.SOURCE
    if clustering == "none":
        if source:
            raise UserError(
                f"UNSUPERVISED.SOURCE: {', '.join(source)} is trained on next to clusters; set UNSUPERVISED.CLUSTERING, or add it to "
                "DATASETS.NAMES to train on labelled data sets only"
            )
        return
    groups = cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE
    if source and groups % 2:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} images are {groups} groups of DATALOADER.NUM_INSTANCE "
            f"{cfg.DATALOADER.NUM_INSTANCE}, which do not halve between target and UNSUPERVISED.SOURCE; take "
            f"{(groups + 1) * cfg.DATALOADER.NUM_INSTANCE}"
        )
    refused = (
        ("DATASETS.VAL_IDS", cfg.DATASETS.VAL_IDS, 0, "holds people out by their labels"),
        ("DATASETS.BALANCE", cfg.DATASETS.BALANCE, "none", "shares batches by the people of each data set"),
        ("DATALOADER.SAMPLER", cfg.DATALOADER.SAMPLER, "pk", "does not draw images by cluster"),
        ("LOSS.CENTER_WEIGHT", cfg.LOSS.CENTER_WEIGHT, 0, "needs classes that stay"),
        ("LOSS.MEMORY", cfg.LOSS.MEMORY, 0, "keeps labels that the next clustering makes wrong"),
        ("MODEL.PRETRAIN_CLASSIFIERS", cfg.MODEL.PRETRAIN_CLASSIFIERS, False, "are those of other classes"),
    )
    for key, value, accepted, why in refused:
        if value != accepted:
            raise UserError(f"{key}: {value} {why}; with UNSUPERVISED.CLUSTERING {clustering} set it to {accepted}")
    if cfg.LOSS.ID != "none" and (cfg.MODEL.JPM or cfg.SOLVER.FSDP):
        part = "MODEL.JPM" if cfg.MODEL.JPM else "SOLVER.FSDP"
        raise UserError(
            f"LOSS.ID: {cfg.LOSS.ID} starts its classifier from the clusters' centroids, which {part} True does not go with; set "
            f"LOSS.ID none, or {part} False"
        )
