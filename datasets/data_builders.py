"""Config -> data sets, preprocessing and loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from yacs.config import CfgNode

from ..common.errors import UserError
from .augment.augment import Augment
from .loading.clips import Clips, chosen_frames, frame_records, refuse_tracklets
from .loading.cluster_sampler import ClusterSampler, JointSampler
from .loading.image_cache import ChosenImages, open_images
from .loading.loaders import EvalLoader, TrainLoader
from .loading.preprocess import Preprocess
from .loading.samplers import PKSampler, Sampler, ShuffleSampler
from .loading.shared_memory import LocalRanks
from .loading.unreadable import Once, drop_unreadable, in_each
from .readers.crops import refuse_unlabelled
from .readers.dataset_registry import ReadOptions, read_dataset, resolve_names
from .readers.distractors import add_distractors, load_distractors
from .readers.merge import join, with_test_people
from .readers.splits import hold_out
from .records import Record, ReidData, label_map, name_rows

log = logging.getLogger(__name__)


def build_data(cfg: CfgNode, once: Once = in_each, draws: bool = True, unlabelled: bool = False) -> ReidData:
    """Read the config's data sets: the training sets joined, query and gallery of the first of DATASETS.TEST.

    With DATASETS.VAL_IDS, that many training identities are held out and replace query and gallery. With UNSUPERVISED.SOURCE, the
    training images of those data sets come last.

    Args:
        once: makes all ranks leave out the same unreadable images; see `drop_unreadable`.
        draws: see `ReadOptions`.
        unlabelled: the people of training images may be unknown, as they may with UNSUPERVISED.CLUSTERING.
    Raises:
        ValueError, FileNotFoundError: an unknown name, or an error of the data set's reader.
    """
    names, test = resolve_names(cfg.DATASETS.NAMES, "DATASETS.NAMES"), build_test_set_names(cfg)[0]
    sources = build_source_names(cfg)
    if not cfg.DATASETS.VAL_IDS:
        _refuse_trained([test], (*cfg.DATASETS.NAMES, *sources) if cfg.DATASETS.TRAIN_PARTS == "all" else ())
    read = _build_reader(cfg, once, draws, unlabelled or None)
    read_source = _build_reader(cfg, once, draws, False, cfg.UNSUPERVISED.SOURCE_DIR)
    parts = {name: read(name) for name in dict.fromkeys([*names, test]) if name not in sources}
    parts |= {name: read_source(name) for name in sources}
    if cfg.DATASETS.TRAIN_PARTS == "all":
        parts |= {name: with_test_people(parts[name]) for name in [*names, *sources]}
    for name in sources:
        refuse_unlabelled(parts[name], "UNSUPERVISED.SOURCE")
    data = join(parts, train=[*names, *sources], test=test)
    data = replace(data, num_source=sum(len(parts[name].train) for name in sources))
    if not data.target:
        raise FileNotFoundError(
            f"DATASETS.NAMES: {', '.join(names)} has no training images (folder bounding_box_train, or split train of a "
            "manifest); vitreid test needs none, vitreid train does"
        )
    if not unlabelled:
        if cfg.UNSUPERVISED.CLUSTERING == "none":
            refuse_unlabelled(data)
        refuse_tracklets(
            data, {"UNSUPERVISED.CLUSTERING": cfg.UNSUPERVISED.CLUSTERING, "LOSS.DISTILL": cfg.LOSS.DISTILL}
        )
    if cfg.DATASETS.VAL_IDS:
        return hold_out(data, cfg.DATASETS.VAL_IDS, cfg.DATASETS.SPLIT_SEED)
    return _build_galleries(cfg, [data], once)[0]


def build_test_sets(cfg: CfgNode, once: Once = in_each, draws: bool = True) -> list[ReidData]:
    """Read only the data sets of DATASETS.TEST.

    Args:
        once, draws: as for `build_data`.
    """
    names, read = build_test_set_names(cfg), _build_reader(cfg, once, draws)
    _refuse_trained(names, cfg.DATASETS.NAMES if cfg.DATASETS.TRAIN_PARTS == "all" else ())
    return _build_galleries(cfg, [read(name) for name in names], once)


def build_test_set_names(cfg: CfgNode) -> list[str]:
    """Return the names of the test sets, each once: DATASETS.TEST, or the first of NAMES."""
    names = resolve_names(cfg.DATASETS.TEST, "DATASETS.TEST")
    return list(dict.fromkeys(names or resolve_names(cfg.DATASETS.NAMES[:1], "DATASETS.NAMES")))


def build_source_names(cfg: CfgNode) -> list[str]:
    """Return the names of the labelled data sets that are trained on next to images without labels, each once.

    Raises:
        UserError: one is among the data sets without labels.
    """
    sources = list(dict.fromkeys(resolve_names(cfg.UNSUPERVISED.SOURCE, "UNSUPERVISED.SOURCE")))
    if both := set(sources) & set(resolve_names(cfg.DATASETS.NAMES, "DATASETS.NAMES")):
        raise UserError(
            f"UNSUPERVISED.SOURCE: {', '.join(sorted(both))} is in DATASETS.NAMES too, whose labels are not used; name it once"
        )
    return sources


def _refuse_trained(tests: Sequence[str], whole: Sequence[str]) -> None:
    """Raise UserError if a test set is one of the data sets that are trained on as a whole."""
    if found := [name for name in tests if name in resolve_names(whole, "DATASETS.NAMES")]:
        raise UserError(
            f"DATASETS.TEST: the people of {found[0]} are trained on (DATASETS.TRAIN_PARTS all), so a figure on them says nothing; "
            "name a data set that is not in DATASETS.NAMES"
        )


def build_read_options(cfg: CfgNode, draws: bool = True, unlabelled: bool | None = None) -> ReadOptions:
    """Return the settings of single readers.

    Args:
        unlabelled: the people of training images may be unknown; None = with UNSUPERVISED.CLUSTERING.
    """
    data = cfg.DATASETS
    if unlabelled is None:
        unlabelled = cfg.UNSUPERVISED.CLUSTERING != "none"
    return ReadOptions(data.MANIFEST, data.TEST_SHARE, data.SPLIT_SEED, draws, data.CAMERA_PATTERN, unlabelled)


def _build_reader(
    cfg: CfgNode, once: Once, draws: bool, unlabelled: bool | None = None, source_dir: str = ""
) -> Callable[[str], ReidData]:
    """Return the function that reads a data set by name, from another folder than DATASETS.ROOT_DIR if one is given."""
    options, readable = build_read_options(cfg, draws, unlabelled), _build_filter(cfg, once)
    root = source_dir or cfg.DATASETS.ROOT_DIR

    def read(name: str) -> ReidData:
        try:
            return readable(read_dataset(name, root, options))
        except (UserError, FileNotFoundError) as error:  # the reader's message names the usual option
            raise type(error)(
                str(error).replace("DATASETS.ROOT_DIR", "UNSUPERVISED.SOURCE_DIR") if source_dir else error
            ) from error

    return read


def _build_filter(cfg: CfgNode, once: Once) -> Callable[[ReidData], ReidData]:
    """Return the function that drops unreadable images under DATASETS.CORRUPT skip, and does nothing otherwise."""
    skip, num_threads = cfg.DATASETS.CORRUPT == "skip", cfg.DATALOADER.NUM_WORKERS
    return lambda data: drop_unreadable(data, num_threads, once) if skip else data


def _build_galleries(cfg: CfgNode, sets: list[ReidData], once: Once) -> list[ReidData]:
    """Return the data sets with the images of DATASETS.DISTRACTORS, if any, in their galleries."""
    if not cfg.DATASETS.DISTRACTORS:
        return sets
    distractors = _build_filter(cfg, once)(load_distractors(cfg.DATASETS.DISTRACTORS))
    log.info("%d distractors in the gallery, from %s", len(distractors.gallery), cfg.DATASETS.DISTRACTORS)
    return [add_distractors(data, distractors) for data in sets]


def build_preprocess(cfg: CfgNode, train: bool = False) -> Preprocess:
    """Return the preprocessing of training or of evaluation."""
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
        cameras, views: names of the rows of the model's camera and view tables.
        rank, num_ranks: this rank of the `num_ranks` that split each batch.
        local: the ranks of this machine; they share one copy of the decoded images. The call is then collective.
    Raises:
        ValueError: too few identities for a batch, or a batch that does not divide among the ranks.
    """
    preprocess = build_preprocess(cfg, train=True)
    loader = cfg.DATALOADER
    clips = None
    if loader.CLIP_FRAMES > 1 or any(record.frames for record in data.train):
        clips = Clips(data.train, loader.CLIP_FRAMES, loader.CLIP_SAMPLING)
    paths = clips.paths if clips else [record.path for record in data.train]
    return TrainLoader(
        data.train,
        open_images(paths, preprocess, loader.CACHE, loader.CACHE_SHARE, loader.NUM_WORKERS, local),
        _build_sampler(cfg, data),
        build_augment(cfg, preprocess),
        camera_rows=name_rows(data.camera_names, cameras),
        view_rows=name_rows(data.view_names, views),
        seed=cfg.SOLVER.SEED,
        device=device,
        rank=rank,
        num_ranks=num_ranks,
        num_workers=loader.NUM_WORKERS,
        clips=clips,
    )


def _build_sampler(cfg: CfgNode, data: ReidData) -> Sampler:
    batch, instances, records = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE, data.train
    if cfg.UNSUPERVISED.CLUSTERING != "none":
        own = batch // 2 if data.num_source else batch
        num_batches = cfg.UNSUPERVISED.ITERATIONS or max(1, len(data.target) // own)
        target, source = (
            ClusterSampler([record.camid for record in some], own // instances, instances, num_batches, cfg.SOLVER.SEED)
            for some in (data.target, data.source)
        )
        people = label_map(data.source)
        known = np.array([people[record.pid] for record in data.source])
        return JointSampler(target, source, known) if data.num_source else target
    if cfg.DATALOADER.SAMPLER == "shuffle":
        return ShuffleSampler(len(records), batch, cfg.SOLVER.SEED)
    labels = label_map(records)
    balance = _balance(data, SHARES[cfg.DATASETS.BALANCE])
    return PKSampler(
        [labels[record.pid] for record in records], batch // instances, instances, cfg.SOLVER.SEED, balance
    )


# exponents of a data set's number of images
SHARES: dict[str, float | None] = {"none": None, "equal": 0.0, "sqrt": 0.5}


def _balance(data: ReidData, power: float | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the data set of each training image and each data set's share of the batches; None = no balancing."""
    if power is None:
        return None
    sources = np.searchsorted(data.first_pids, [record.pid for record in data.train], side="right") - 1
    counts = np.bincount(sources, minlength=len(data.first_pids))
    return sources, np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)


def build_augment(cfg: CfgNode, preprocess: Preprocess) -> Augment:
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


def build_plain_loader(
    cfg: CfgNode,
    data: ReidData,
    train: TrainLoader,
    cameras: Sequence[str] = (),
    views: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int = 0,
    num_ranks: int = 1,
    stride: int = 1,
) -> EvalLoader:
    """Return a loader of the images of `train` as they are, not augmented, which are decoded once for both loaders.

    Args:
        cameras, views: names of the rows of the model's camera and view tables.
        rank, num_ranks: it loads the images rank, rank + num_ranks, rank + 2 * num_ranks, …
        stride: load only every n-th image; the ranks share these.
    """
    positions = np.arange(0, len(data.train), stride)[rank::num_ranks]
    return EvalLoader(
        [data.train[place] for place in positions],
        build_preprocess(cfg, train=True),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        camera_rows=name_rows(data.camera_names, cameras),
        view_rows=name_rows(data.view_names, views),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        device=device,
        images=ChosenImages(train.images, positions),
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
    """Return a loader of `records` of `data`, in their order; of a tracklet the frames, see `build_frame_counts`.

    Args:
        cameras, views: names of the rows of the model's camera and view tables.
        preprocess: the checkpoint's preprocessing; None = the config's.
    """
    return EvalLoader(
        frame_records(records, cfg.TEST.CLIP_FRAMES),
        preprocess or build_preprocess(cfg),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        camera_rows=name_rows(data.camera_names, cameras),
        view_rows=name_rows(data.view_names, views),
        cache=cfg.DATALOADER.CACHE,
        cache_share=cfg.DATALOADER.CACHE_SHARE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        device=device,
    )


def build_frame_counts(cfg: CfgNode, records: Sequence[Record]) -> list[int]:
    """Return the number of images that `build_eval_loader` loads of each record."""
    return [len(chosen_frames(record, cfg.TEST.CLIP_FRAMES)) for record in records]
