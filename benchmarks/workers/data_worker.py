"""One measurement of data loading: `python benchmarks/workers/data_worker.py JOB` prints one JSON line."""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.common.measurement import OURS, timed
from vitreid.benchmarks.common.peak_memory import wait
from vitreid.benchmarks.workers.training_worker import our_trainer
from vitreid.configs import load_config
from vitreid.datasets import build_data, build_eval_loader, build_train_loader, label_map
from vitreid.datasets.loading.image_cache import decode_all
from vitreid.datasets.loading.samplers import PKSampler
from vitreid.processor import Trainer, pick_precision
from vitreid.tools import train as train_tool

Figures = dict[str, float]
EPOCHS = 3  # of training batches


@dataclass(frozen=True)
class LoadingJob:
    """Settings of one measurement.

    Args:
        task, contestant: names in TASKS.
        data: folder that holds market1501.
        checkout: the peer's folder; empty = ours.
        device: device of the batches, "cpu" or "cuda".
        batch, instances, workers: images per batch, K, and workers of the loader.
        steps: batches before the clock starts, and at most afterwards.
        crowd: images and identities of the sampler's training set.
        model: timm model to train.
        started: `time.time()` at the start of the command.
        options: further KEY VALUE overrides of the config.
    """

    task: str
    contestant: str
    data: str
    checkout: str = ""
    device: str = "cpu"
    batch: int = 64
    instances: int = 4
    workers: int = 2
    steps: tuple[int, int] = (4, 100_000)
    crowd: tuple[int, int] = (1_000_000, 100_000)
    model: str = "vit_base_patch16_224"
    started: float = 0.0
    options: tuple[str, ...] = ()


def config_of(job: LoadingJob, *words: object) -> Any:
    """Return our config for the job: TransReID's recipe with KEY VALUE overrides."""
    common = ("DATASETS.ROOT_DIR", job.data, "DATALOADER.NUM_WORKERS", job.workers, "SOLVER.IMS_PER_BATCH", job.batch)
    instances = ("DATALOADER.NUM_INSTANCE", job.instances, "TEST.IMS_PER_BATCH", job.batch)
    return load_config(None, [*map(str, (*common, *instances, *words)), *job.options])


def speed_of(batches: Iterable[Any], job: LoadingJob) -> Figures:
    """Return images per second after the first batches."""
    iterator, counts = iter(batches), list[int]()
    deque(itertools.islice(iterator, job.steps[0]), maxlen=0)
    timed_batches = map(len, itertools.islice(iterator, job.steps[1]))
    seconds, _ = timed(lambda: counts.extend(timed_batches), partial(wait, job.device))
    return {"img/s": sum(counts) / seconds}


def epochs_of(loader: Any) -> Iterator[Any]:
    """Yield the batches of some epochs, each with other draws."""
    for epoch in range(EPOCHS):
        if hasattr(loader, "set_epoch"):  # other projects' loaders count epochs themselves
            loader.set_epoch(epoch)
        yield from loader


def our_training(job: LoadingJob) -> Figures:
    """Our augmented batches from cached images."""
    cfg = config_of(job)
    return speed_of(epochs_of(build_train_loader(cfg, build_data(cfg), device=job.device)), job)


def our_test(job: LoadingJob, cache: str) -> Figures:
    """Our test batches, each file decoded when it is needed, or cached as in all but the first evaluation of a run."""
    cfg = config_of(job, "DATALOADER.CACHE", cache)
    data = build_data(cfg)
    return speed_of(build_eval_loader(cfg, data, [*data.query, *data.gallery], device=job.device), job)


def transreid_batches(job: LoadingJob, is_training: bool) -> Figures:
    """The batches of the original's training or test loader, as its make_dataloader builds them."""
    size, half = (256, 128), (0.5, 0.5, 0.5)
    cfg = SimpleNamespace(
        INPUT=SimpleNamespace(
            SIZE_TRAIN=size, SIZE_TEST=size, PROB=0.5, RE_PROB=0.5, PADDING=10, PIXEL_MEAN=half, PIXEL_STD=half
        ),
        DATALOADER=SimpleNamespace(NUM_WORKERS=job.workers, SAMPLER="softmax_triplet", NUM_INSTANCE=job.instances),
        DATASETS=SimpleNamespace(NAMES="market1501", ROOT_DIR=job.data),
        MODEL=SimpleNamespace(DIST_TRAIN=False),
        SOLVER=SimpleNamespace(IMS_PER_BATCH=job.batch),
        TEST=SimpleNamespace(IMS_PER_BATCH=job.batch),
    )
    checkout = Checkout(Path(job.checkout))
    checkout.load("utils.iotools")  # first, because its data sets import it by this name
    module = checkout.load("datasets.make_dataloader")
    with redirect_stdout(sys.stderr):  # it prints statistics
        training, _, test, *_ = module.make_dataloader(cfg)
    loader = epochs_of(training) if is_training else test
    return speed_of((batch[0].to(job.device) for batch in loader), job)


def our_decoding(job: LoadingJob) -> Figures:
    """Seconds to decode the training set into memory, at its own size."""
    cfg = config_of(job)
    data = build_data(cfg)
    loader = build_train_loader(config_of(job, "DATALOADER.CACHE", "off"), data)
    paths, found = [record.path for record in data.train], []
    seconds, _ = timed(lambda: found.append(decode_all(paths, loader.augment.preprocess, job.workers)))
    return {"seconds": seconds, "MB": found[0].nbytes / 1e6}


def crowd(job: LoadingJob) -> np.ndarray:
    """Return the identity of each image of the sampler's training set."""
    return np.random.default_rng(0).integers(0, job.crowd[1], job.crowd[0])


def our_sampling(job: LoadingJob) -> Figures:
    """Seconds of an epoch of our PK sampler, without the setup per run, as for the others."""
    sampler = PKSampler(crowd(job), job.batch // job.instances, job.instances)
    return {"seconds": timed(lambda: sampler.batches(0))[0]}


def transreid_sampling(job: LoadingJob) -> Figures:
    """Seconds of an epoch of its RandomIdentitySampler."""
    module = Checkout(Path(job.checkout)).load("datasets.sampler")
    sampler = module.RandomIdentitySampler([("", pid, 0, 0) for pid in crowd(job).tolist()], job.batch, job.instances)
    return {"seconds": timed(lambda: list(sampler))[0]}


def fastreid_sampling(job: LoadingJob, name: str) -> Figures:
    """Seconds of one of its endless samplers, for as many images as the training set has."""
    module = Checkout(Path(job.checkout)).load("fastreid.data.samplers.triplet_sampler")
    records = [("", pid, image % 6) for image, pid in enumerate(crowd(job).tolist())]
    sampler = getattr(module, name)(records, job.batch, job.instances, seed=0)
    return {"seconds": timed(lambda: deque(itertools.islice(sampler, job.crowd[0]), maxlen=0))[0]}


def our_waiting(job: LoadingJob) -> Figures:
    """Share of a training step spent waiting for its batch, and increase of the step time over steps with a ready batch."""
    cfg = config_of(job, "MODEL.NAME", job.model, "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", job.device)
    data, device = build_data(cfg), torch.device(job.device)
    trainer = our_trainer(cfg, data.train_cameras, len(label_map(data.train)), device, pick_precision("auto", device))

    def step(batch: Any) -> None:
        trainer.step(batch)
        wait(job.device)

    batches = iter(build_train_loader(cfg, data, trainer.module.model.spec.cameras, device=device))
    for batch in itertools.islice(batches, job.steps[0]):
        step(batch)
    waited, whole, number = 0.0, 0.0, 0
    while number < job.steps[1]:
        start = time.perf_counter()
        if (following := next(batches, None)) is None:
            break
        waited += time.perf_counter() - start
        batch = following
        step(batch)
        whole += time.perf_counter() - start
        number += 1
    alone, _ = timed(*[partial(step, batch)] * number)
    return {"waiting": waited / whole, "longer": whole / alone - 1, "img/s": number * job.batch / whole}


class _FirstStepDone(BaseException):
    """Ends training after its first step."""


def our_first_step(job: LoadingJob) -> Figures:
    """Seconds from the command to the start and the end of the first training step."""
    figures: Figures = {}
    step = Trainer.step

    def first_step(self: Trainer, *args: Any, **options: Any) -> Any:
        figures["seconds"] = time.time() - job.started
        step(self, *args, **options)
        figures["step done"] = time.time() - job.started
        raise _FirstStepDone

    Trainer.step = first_step  # type: ignore[method-assign]
    words = ("MODEL.NAME", job.model, "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", job.device)
    common = ("DATASETS.ROOT_DIR", job.data, "DATALOADER.NUM_WORKERS", job.workers, "SOLVER.IMS_PER_BATCH", job.batch)
    try:
        with redirect_stdout(sys.stderr):
            train_tool.main([*map(str, (*words, *common)), *job.options])
    except _FirstStepDone:
        return figures
    raise RuntimeError("tools/train.py ended before its first step")


# contestant -> option of its checkout
PEERS = {"TransReID": "transreid", "fast-reid balanced": "fastreid", "fast-reid naive": "fastreid"}
TASKS: dict[str, dict[str, Callable[[LoadingJob], Figures]]] = {  # task -> contestant -> measurement
    "train batches": {OURS: our_training, "TransReID": partial(transreid_batches, is_training=True)},
    "test batches": {
        OURS: partial(our_test, cache="off"),
        "vitreid, images in memory": partial(our_test, cache="on"),
        "TransReID": partial(transreid_batches, is_training=False),
    },
    "decoding": {OURS: our_decoding},
    "sampler": {
        OURS: our_sampling,
        "TransReID": transreid_sampling,
        "fast-reid balanced": partial(fastreid_sampling, name="BalancedIdentitySampler"),
        "fast-reid naive": partial(fastreid_sampling, name="NaiveIdentitySampler"),
    },
    "waiting": {OURS: our_waiting},
    "first step": {OURS: our_first_step},
}


def measure(job: LoadingJob) -> Figures:
    """Measure the job's contestant."""
    return TASKS[job.task][job.contestant](job)


if __name__ == "__main__":
    sys.exit(reply(LoadingJob, measure))
