"""Config -> images and views of self-supervised pre-training."""

from __future__ import annotations

from dataclasses import replace

import torch
from yacs.config import CfgNode

from .augment.multi_crop import MultiCrop, Unchanged, ViewColours
from .data_builders import build_preprocess
from .loading.clips import frame_records
from .loading.image_cache import open_images
from .loading.loaders import TrainLoader
from .loading.samplers import ShuffleSampler
from .records import ReidData


def build_raw_loader(cfg: CfgNode, data: ReidData, device: torch.device | str = "cpu") -> TrainLoader:
    """Return a loader of the frames of `data.train` in random order, as uint8: `MultiCrop` makes views of each batch."""
    preprocess, loader = build_preprocess(cfg, train=True), cfg.DATALOADER
    records = frame_records(data.train)
    images = open_images(
        [record.path for record in records], preprocess, loader.CACHE, loader.CACHE_SHARE, loader.NUM_WORKERS
    )
    sampler = ShuffleSampler(len(records), cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.SEED)
    return TrainLoader(
        records,
        images,
        sampler,
        Unchanged(preprocess),
        seed=cfg.SOLVER.SEED,
        device=device,
        num_workers=loader.NUM_WORKERS,
    )


def build_multi_crop(cfg: CfgNode) -> MultiCrop:
    """Return the augmentation of self-supervised pre-training."""
    options = cfg.INPUT
    views = cfg.PRETRAIN
    colours = ViewColours(
        jitter=options.COLOR_JITTER,
        hue=options.HUE_JITTER,
        jitter_prob=views.JITTER_PROB,
        gray=options.GRAY_PROB,
        blur=views.BLUR,
        solarize=views.SOLARIZE,
        erase=options.RE_PROB,
        erase_mode=options.RE_MODE,
    )
    preprocess = build_preprocess(cfg, train=True)
    if any(views.GLOBAL_SIZE):
        preprocess = replace(preprocess, size=views.GLOBAL_SIZE)
    return MultiCrop(
        preprocess,
        local_size=views.LOCAL_SIZE,
        num_local=views.LOCAL_CROPS,
        global_scale=views.GLOBAL_SCALE,
        local_scale=views.LOCAL_SCALE,
        flip=options.PROB,
        colours=colours,
    )
