"""One measurement of data loading: `python benchmarks/workers/data_worker.py JOB` prints one JSON line."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.configs import load_config
from vitreid.datasets import build_data, build_eval_loader, build_train_loader, label_map
from vitreid.datasets.loading.image_cache import decode_all
from vitreid.datasets.loading.samplers import PKSampler
from vitreid.loss import build_loss
from vitreid.model import build_model
from vitreid.processor import Trainer, TrainingModule, autocast, pick_precision
from vitreid.processor.device import place
from vitreid.tools import train as train_tool

Figures = dict[str, float]


@dataclass(frozen=True)
class LoadingJob:
    """Settings of one measurement.

    Args:
        task, contestant: names in TASKS.
        data: folder that holds market1501.
        checkout: the peer's folder; empty = ours.
        device: device of the batches, "cpu" or "cuda".
        batch, instances, workers: images per batch, K, and workers of the loader.
        warmup, steps: batches before the clock starts, and at most afterwards.
        images, ids: size of the sampler's training set.
        model: timm model to train.
        started: `time.time()` at the start of the command.
        options: further KEY VALUE overrides of the config.
        epochs: epochs of training batches.
    """

    task: str
    contestant: str
    data: str
    checkout: str = ""
    device: str = "cpu"
    batch: int = 64
    instances: int = 4
    workers: int = 2
    warmup: int = 4
    steps: int = 100_000
    images: int = 1_000_000
    ids: int = 100_000
    model: str = "vit_base_patch16_224"
    started: float = 0.0
    options: tuple[str, ...] = ()
    epochs: int = 3


@dataclass(frozen=True)
class LoadingOutcome:
    """Figures of a measurement, or the reason of its failure."""

    figures: Figures = field(default_factory=dict)
    failure: str = ""


def config_of(job: LoadingJob, *words: object) -> Any:
    """Return our config for the job: TransReID's recipe with KEY VALUE overrides."""
    common = ("DATASETS.ROOT_DIR", job.data, "DATALOADER.NUM_WORKERS", job.workers, "SOLVER.IMS_PER_BATCH", job.batch)
    instances = ("DATALOADER.NUM_INSTANCE", job.instances, "TEST.IMS_PER_BATCH", job.batch)
    return load_config(None, [*map(str, (*common, *instances, *words)), *job.options])


def speed_of(batches: Iterable[Any], job: LoadingJob, count: Callable[[Any], int]) -> Figures:
    """Return images per second after the first batches."""
    iterator = iter(batches)
    for _ in itertools.islice(iterator, job.warmup):
        pass
    start, number = time.perf_counter(), 0
    for batch in itertools.islice(iterator, job.steps):
        number += count(batch)
    if job.device == "cuda":
        torch.cuda.synchronize()
    return {"img/s": number / (time.perf_counter() - start)}


def our_training(job: LoadingJob) -> Figures:
    """Our augmented batches from cached images."""
    cfg = config_of(job)
    loader = build_train_loader(cfg, build_data(cfg), device=job.device)
    return speed_of(epochs_of(loader, job), job, len)


def epochs_of(loader: Any, job: LoadingJob) -> Iterator[Any]:
    """Yield the batches of some epochs, each with other draws."""
    for epoch in range(job.epochs):
        if hasattr(loader, "set_epoch"):  # other projects' loaders count epochs themselves
            loader.set_epoch(epoch)
        yield from loader


def our_test(job: LoadingJob) -> Figures:
    """Our test batches, each file decoded when it is needed."""
    cfg = config_of(job, "DATALOADER.CACHE", "off")
    data = build_data(cfg)
    return speed_of(build_eval_loader(cfg, data, [*data.query, *data.gallery], device=job.device), job, len)


def our_cached_test(job: LoadingJob) -> Figures:
    """Our test batches from cached images, as in every evaluation of a training run but the first."""
    cfg = config_of(job, "DATALOADER.CACHE", "on")
    data = build_data(cfg)
    return speed_of(build_eval_loader(cfg, data, [*data.query, *data.gallery], device=job.device), job, len)


def transreid_loaders(job: LoadingJob) -> tuple[Any, Any]:
    """Return the training and the test loader that its make_dataloader builds."""
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
    return training, test


def transreid_training(job: LoadingJob) -> Figures:
    """The original's training loader."""
    return speed_of(moved(epochs_of(transreid_loaders(job)[0], job), job.device), job, len)


def transreid_test(job: LoadingJob) -> Figures:
    """The original's test loader."""
    return speed_of(moved(transreid_loaders(job)[1], job.device), job, len)


def moved(loader: Iterable[Any], device: str) -> Iterator[torch.Tensor]:
    """Yield the images of each batch on the device."""
    return (batch[0].to(device) for batch in loader)


def our_decoding(job: LoadingJob) -> Figures:
    """Seconds to decode the training set into memory, at its own size."""
    cfg = config_of(job)
    data = build_data(cfg)
    loader = build_train_loader(config_of(job, "DATALOADER.CACHE", "off"), data)
    paths, start = [record.path for record in data.train], time.perf_counter()
    pixels = decode_all(paths, loader.augment.preprocess, job.workers)
    return {"seconds": time.perf_counter() - start, "MB": pixels.nbytes / 1e6}


def crowd(job: LoadingJob) -> np.ndarray:
    """Return the identity of each image of the sampler's training set."""
    return np.random.default_rng(0).integers(0, job.ids, job.images)


def our_sampling(job: LoadingJob) -> Figures:
    """Seconds of an epoch of our PK sampler, without the setup per run, as for the others."""
    sampler = PKSampler(crowd(job), job.batch // job.instances, job.instances)
    start = time.perf_counter()
    sampler.batches(0)
    return {"seconds": time.perf_counter() - start}


def transreid_sampling(job: LoadingJob) -> Figures:
    """Seconds of an epoch of its RandomIdentitySampler."""
    module = Checkout(Path(job.checkout)).load("datasets.sampler")
    sampler = module.RandomIdentitySampler([("", pid, 0, 0) for pid in crowd(job).tolist()], job.batch, job.instances)
    start = time.perf_counter()
    list(sampler)
    return {"seconds": time.perf_counter() - start}


def fastreid_sampling(name: str) -> Callable[[LoadingJob], Figures]:
    """Return the measurement of one of its endless samplers, for as many images as the training set has."""

    def measure(job: LoadingJob) -> Figures:
        module = Checkout(Path(job.checkout)).load("fastreid.data.samplers.triplet_sampler")
        records = [("", pid, image % 6) for image, pid in enumerate(crowd(job).tolist())]
        sampler = getattr(module, name)(records, job.batch, job.instances, seed=0)
        start = time.perf_counter()
        for _ in itertools.islice(sampler, job.images):
            pass
        return {"seconds": time.perf_counter() - start}

    return measure


def our_waiting(job: LoadingJob) -> Figures:
    """Share of a training step spent waiting for its batch, and increase of the step time over steps with a ready batch."""
    cfg = config_of(job, "MODEL.NAME", job.model, "MODEL.PRETRAIN_CHOICE", "none", "MODEL.DEVICE", job.device)
    data, device = build_data(cfg), torch.device(job.device)
    precision = pick_precision("auto", device)
    model = place(build_model(cfg, data.train_cameras), device, precision)
    loss = build_loss(cfg, len(label_map(data.train)), model.embed_dim, model.num_branches)
    module = TrainingModule(model, loss).to(device).train()
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)

    def step(batch: Any) -> None:
        with autocast(device, precision):
            terms, _ = module(batch)
        sum(terms.values(), torch.zeros((), device=device)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if job.device == "cuda":
            torch.cuda.synchronize()

    batches = iter(build_train_loader(cfg, data, model.spec.cameras, device=device))
    for batch in itertools.islice(batches, job.warmup):
        step(batch)
    waited, whole, number = 0.0, 0.0, 0
    while number < job.steps:
        start = time.perf_counter()
        if (following := next(batches, None)) is None:
            break
        waited += time.perf_counter() - start
        batch = following
        step(batch)
        whole += time.perf_counter() - start
        number += 1
    start = time.perf_counter()
    for _ in range(number):
        step(batch)
    alone = time.perf_counter() - start
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


OURS = "vitreid"
TASKS: dict[
    str, dict[str, tuple[Callable[[LoadingJob], Figures], str]]
] = {  # task -> contestant -> measurement, its peer
    "train batches": {OURS: (our_training, ""), "TransReID": (transreid_training, "transreid")},
    "test batches": {
        OURS: (our_test, ""),
        "vitreid, images in memory": (our_cached_test, ""),
        "TransReID": (transreid_test, "transreid"),
    },
    "decoding": {OURS: (our_decoding, "")},
    "sampler": {
        OURS: (our_sampling, ""),
        "TransReID": (transreid_sampling, "transreid"),
        "fast-reid balanced": (fastreid_sampling("BalancedIdentitySampler"), "fastreid"),
        "fast-reid naive": (fastreid_sampling("NaiveIdentitySampler"), "fastreid"),
    },
    "waiting": {OURS: (our_waiting, "")},
    "first step": {OURS: (our_first_step, "")},
}


def main(argv: list[str] | None = None) -> int:
    """Measure the job given as JSON; a failure is a result too."""
    values = json.loads((sys.argv[1:] if argv is None else argv)[0])
    job = LoadingJob(**{**values, "options": tuple(values["options"])})
    return reply(lambda: LoadingOutcome(TASKS[job.task][job.contestant][0](job)), LoadingOutcome)


if __name__ == "__main__":
    sys.exit(main())
