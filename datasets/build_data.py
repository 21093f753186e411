"""The config's data: the only file of this room that reads the yacs node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from yacs.config import CfgNode

from ..common.errors import UserError
from .augment.augment import Augment
from .loading.image_cache import open_images
from .loading.loaders import EvalLoader, TrainLoader
from .loading.preprocess import Preprocess
from .loading.samplers import PKSampler, Sampler, ShuffleSampler
from .loading.shared_memory import LocalRanks
from .loading.unreadable import Once, drop_unreadable, in_each
from .readers.distractors import add_distractors, load_distractors
from .readers.folder import load_folder
from .readers.manifest import load_manifest
from .readers.market1501 import load_dukemtmc, load_market1501
from .readers.merge import join
from .readers.msmt17 import load_msmt17
from .readers.splits import hold_out
from .records import Record, ReidData, label_map, name_rows
from .synthetic.dataset import load_synthetic

log = logging.getLogger(__name__)

DATASETS: dict[str, Callable[[CfgNode], ReidData]] = {
    "market1501": lambda cfg: load_market1501(cfg.DATASETS.ROOT_DIR),
    "dukemtmc": lambda cfg: load_dukemtmc(cfg.DATASETS.ROOT_DIR),
    "msmt17": lambda cfg: load_msmt17(cfg.DATASETS.ROOT_DIR),
    "synthetic": lambda cfg: load_synthetic(cfg.DATASETS.ROOT_DIR),
    "manifest": lambda cfg: load_manifest(cfg.DATASETS.MANIFEST),
    "folder": lambda cfg: load_folder(cfg.DATASETS.ROOT_DIR, cfg.DATASETS.TEST_SHARE, cfg.DATASETS.SPLIT_SEED),
}
ALIASES = {"dukemtmcreid": "dukemtmc"}


def build_data(cfg: CfgNode, once: Once = in_each) -> ReidData:
    """Read the config's data sets: the training sets joined, query and gallery of the first of DATASETS.TEST.

    With DATASETS.VAL_IDS, that many training identities are held out and take the place of query and gallery.

    Args:
        once: how several processes come to leave out the same unreadable images; see `drop_unreadable`.
    Raises:
        ValueError, FileNotFoundError: an unknown name, or what the data set's parser says.
    """
    names, test = _resolve_all(cfg.DATASETS.NAMES, "NAMES"), names_of_test_sets(cfg)[0]
    parts = {name: _load(cfg, name, once) for name in dict.fromkeys([*names, test])}
    data = join(parts, train=names, test=test)
    if not data.train:
        raise FileNotFoundError(
            f"DATASETS.NAMES: {', '.join(names)} has no training images (folder bounding_box_train, or split train of a "
            "manifest); tools/test.py needs none, tools/train.py does"
        )
    if cfg.DATASETS.VAL_IDS:
        return hold_out(data, cfg.DATASETS.VAL_IDS, cfg.DATASETS.SPLIT_SEED)
    return _with_distractors(cfg, [data], once)[0]


def build_test_sets(cfg: CfgNode, once: Once = in_each) -> list[ReidData]:
    """Read only the data sets whose query and gallery images are evaluated: those of DATASETS.TEST.

    Args:
        once: as for `build_data`.
    Raises:
        ValueError, FileNotFoundError: an unknown name, or what the data set's parser says.
    """
    return _with_distractors(cfg, [_load(cfg, name, once) for name in names_of_test_sets(cfg)], once)


def names_of_test_sets(cfg: CfgNode) -> list[str]:
    """Return the test sets' names, each once: DATASETS.TEST, or the first of NAMES."""
    names = _resolve_all(cfg.DATASETS.TEST, "TEST") or _resolve_all(cfg.DATASETS.NAMES[:1], "NAMES")
    return list(dict.fromkeys(names))


def _resolve_all(names: Sequence[str], key: str) -> list[str]:
    return [_resolve(name, key) for name in names]


def _with_distractors(cfg: CfgNode, sets: list[ReidData], once: Once) -> list[ReidData]:
    """Return the data sets with the images of DATASETS.DISTRACTORS, if any, in their galleries."""
    if not cfg.DATASETS.DISTRACTORS:
        return sets
    distractors = _readable(cfg, load_distractors(cfg.DATASETS.DISTRACTORS), once)
    log.info("%d distractors in the gallery, from %s", len(distractors.gallery), cfg.DATASETS.DISTRACTORS)
    return [add_distractors(data, distractors) for data in sets]


def _load(cfg: CfgNode, name: str, once: Once) -> ReidData:
    return _readable(cfg, DATASETS[name](cfg), once)


def _readable(cfg: CfgNode, data: ReidData, once: Once) -> ReidData:
    """Under DATASETS.CORRUPT skip, read every image once and leave the unreadable ones out."""
    return drop_unreadable(data, cfg.DATALOADER.NUM_WORKERS, once) if cfg.DATASETS.CORRUPT == "skip" else data


def _resolve(name: str, key: str) -> str:
    known = ALIASES.get(name.lower(), name.lower())
    if known not in DATASETS:
        raise UserError(f"DATASETS.{key}: unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return known


def build_preprocess(cfg: CfgNode, train: bool = False) -> Preprocess:
    """Return how files become tensors, in training or afterwards."""
    size = cfg.INPUT.SIZE_TRAIN if train else cfg.INPUT.SIZE_TEST
    return Preprocess(size, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD, cfg.INPUT.INTERPOLATION)


def build_train_loader(
    cfg: CfgNode,
    data: ReidData,
    cameras: Sequence[str] = (),
    views: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    num_ranks: int = 1,
    local: LocalRanks | None = None,
) -> TrainLoader:
    """Return the loader of `data.train`.

    Args:
        cameras, views: the names of the rows of the model's tables.
        rank, num_ranks: which of the processes that share every batch this is.
        local: the ranks of this machine; they share one copy of the decoded images. The call is then collective.
    Raises:
        ValueError: too few identities for a batch, or a batch that does not divide among the processes.
    """
    preprocess = build_preprocess(cfg, train=True)
    loader = cfg.DATALOADER
    return TrainLoader(
        data.train,
        open_images(
            [record.path for record in data.train],
            preprocess,
            loader.CACHE,
            loader.CACHE_SHARE,
            loader.NUM_WORKERS,
            local=local,
        ),
        _build_sampler(cfg, data),
        _build_augment(cfg, preprocess),
        camera_rows=name_rows(data.camera_names, cameras),
        view_rows=name_rows(data.view_names, views),
        seed=cfg.SOLVER.SEED,
        device=device,
        rank=rank,
        num_ranks=num_ranks,
        num_workers=loader.NUM_WORKERS,
    )


def _build_sampler(cfg: CfgNode, data: ReidData) -> Sampler:
    batch, instances, records = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE, data.train
    if cfg.DATALOADER.SAMPLER == "shuffle":
        return ShuffleSampler(len(records), batch, cfg.SOLVER.SEED)
    labels = label_map(records)
    balance = _balance(data, SHARES[cfg.DATASETS.BALANCE])
    return PKSampler(
        [labels[record.pid] for record in records], batch // instances, instances, cfg.SOLVER.SEED, balance
    )


SHARES: dict[str, float | None] = {"none": None, "equal": 0.0, "sqrt": 0.5}  # powers of a data set's number of images


def _balance(data: ReidData, power: float | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the data set of each training image and the share of each in the batches; None = as it comes."""
    if power is None:
        return None
    sources = np.searchsorted(data.first_pids, [record.pid for record in data.train], side="right") - 1
    counts = np.bincount(sources, minlength=len(data.first_pids))
    return sources, np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)


def _build_augment(cfg: CfgNode, preprocess: Preprocess) -> Augment:
    options = cfg.INPUT
    return Augment(
        preprocess,
        flip=options.PROB,
        padding=options.PADDING,
        jitter=options.COLOR_JITTER,
        erase=options.RE_PROB,
        erase_mode=options.RE_MODE,
        hue=options.HUE_JITTER,
        gray=options.GRAY_PROB,
        local_gray=options.LOCAL_GRAY_PROB,
        auto=options.AUTO_AUGMENT_PROB,
    )


def build_eval_loader(
    cfg: CfgNode,
    data: ReidData,
    records: Sequence[Record],
    cameras: Sequence[str] = (),
    views: Sequence[str] = (),
    device: torch.device | str = "cpu",
    preprocess: Preprocess | None = None,
) -> EvalLoader:
    """Return a loader of `records`, which belong to `data`, in their order.

    Args:
        cameras, views: the names of the rows of the model's tables.
        preprocess: a checkpoint's own; None = the config's.
    """
    return EvalLoader(
        records,
        preprocess or build_preprocess(cfg),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        camera_rows=name_rows(data.camera_names, cameras),
        view_rows=name_rows(data.view_names, views),
        cache=cfg.DATALOADER.CACHE,
        cache_share=cfg.DATALOADER.CACHE_SHARE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        device=device,
    )
