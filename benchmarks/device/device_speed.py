"""How fast: training next to the original's code, loading, extraction, torch.compile, and a million embeddings."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitreid.benchmarks.common.isolated_process import ask
from vitreid.benchmarks.common.measurement import timed
from vitreid.benchmarks.common.peak_memory import wait
from vitreid.benchmarks.device.agreement import ROUNDING
from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob, agreement, aim, not_measured
from vitreid.benchmarks.device.ranking_agreement import make_people
from vitreid.benchmarks.device.small_training import (
    exact_float32,
    image_size,
    make_batches,
    make_trainer,
    small_config,
    terms_difference,
    train_on,
)
from vitreid.benchmarks.workers import training_worker
from vitreid.benchmarks.workers.training_worker import TrainingJob, matrix_speed, measure
from vitreid.datasets import Record, TrainLoader
from vitreid.datasets.data_builders import build_augment, build_preprocess
from vitreid.datasets.loading.image_cache import CachedImages
from vitreid.datasets.loading.samplers import PKSampler
from vitreid.evaluation import evaluate_retrieval
from vitreid.gallery.search.exact_index import ExactIndex
from vitreid.processor import pick_precision
from vitreid.processor.training.epoch_loop import compile_backbone

WORKER = Path(training_worker.__file__)
FASTER, USED = 3, 0.45  # aims: images per second in units of the original's; share of the matrix rate, both at batch 64
LIMIT = 60  # seconds of a measurement of the original's code


def training_job(job: DeviceJob, batch: int, **changes: Any) -> TrainingJob:
    """Return the measurement of a training step of ViT-B, with our code unless `changes` say otherwise."""
    small = ("MODEL.NAME", "vit_tiny_patch16_224") if job.quick else ()
    own = TrainingJob(
        contestant="vitreid",
        recipe="market/vit_base",
        original="Market/vit_base.yml",
        batch=8 if job.quick else batch,
        steps=1 if job.quick else 20,
        size=image_size(job),
        opts=small,
        device=job.device,
        checkout=job.transreid,
        seed=job.seed,
    )
    return replace(own, **changes)


def training_speed(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Images per second and use of the matrix units, the original's code next to ours."""
    precision = pick_precision("auto", torch.device(job.device))
    rate = matrix_speed(job.device, precision)
    yield DeviceFinding(f"rate of a matrix product, {str(precision).removeprefix('torch.')}", rate / 1e12, "TFLOP/s")
    for own in (training_job(job, 64),) if job.quick else (training_job(job, 64), training_job(job, 256)):
        batch, ours = own.batch, measure(own)
        yield DeviceFinding(f"batch {batch}, vitreid", ours["speed"], "images/s", text=memory_text(ours))
        if ours["utilisation"] is not None:
            what = f"batch {batch}, vitreid: share of the matrix rate"
            is_aim = batch == 64 and not job.quick
            yield aim(what, ours["utilisation"], least=USED) if is_aim else DeviceFinding(what, ours["utilisation"])
        for name, kind in (("as written, float16", "fp16"), ("bfloat16", "bf16")):
            what = f"batch {batch}, original, {name}"
            if not job.transreid:
                yield not_measured(what, "no checkout given (--transreid)")
                continue
            answer = ask(WORKER, replace(own, contestant="original", precision=kind), 600 if job.quick else LIMIT)
            if answer.failure:
                yield not_measured(what, answer.failure.removesuffix(" (--limit)"))
                continue
            theirs = answer.figures
            yield DeviceFinding(what, theirs["speed"], "images/s", text=memory_text(theirs))
            if job.quick:  # ours is a small model then, and theirs is not
                continue
            what, ratio = f"batch {batch}, vitreid / original, {name}", ours["speed"] / theirs["speed"]
            is_aim = batch == 64 and kind == "fp16"
            yield aim(what, ratio, least=FASTER) if is_aim else DeviceFinding(what, ratio)


def memory_text(figures: dict[str, Any]) -> str:
    """Return the peak memory of the GPU, if it was measured."""
    return f"{figures['gpu_mb']:,.0f} MB" if figures.get("gpu_mb") is not None else ""


def loading(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Rate of augmented batches alone, and how much longer steps take that wait for them."""
    cfg = small_config(job, "MODEL.NAME", "vit_base_patch16_224", recipe="market/vit_base")
    size, number, batch = image_size(job), 64 if job.quick else 4096, 16 if job.quick else 64
    pixels = np.random.default_rng(job.seed).integers(0, 256, (number, 3, *size), np.uint8)
    records = [Record(f"{place}.jpg", place // 4, place % 6) for place in range(number)]
    workers = min(8, os.cpu_count() or 1)
    loader = TrainLoader(
        records,
        CachedImages(pixels),
        PKSampler([record.pid for record in records], batch // 4, 4, job.seed),
        build_augment(cfg, build_preprocess(cfg, train=True)),
        device=job.device,
        num_workers=workers,
    )
    deque(loader, maxlen=0)  # threads, page-locked memory and kernels are set up
    seconds, _ = timed(lambda: sum(map(len, loader)), lambda: wait(job.device))
    yield DeviceFinding(
        f"{workers} threads: augmented batches of {batch} alone", len(loader) * batch / seconds, "images/s"
    )
    trainer = make_trainer(job, cfg, precision=pick_precision("auto", torch.device(job.device)))
    ready = make_batches(job, 1, batch)[0].to(job.device)
    trainer.step(ready)
    fed, _ = timed(lambda: [trainer.step(one) and None for one in loader], lambda: wait(job.device))
    alone, _ = timed(lambda: [trainer.step(ready) and None for _ in range(len(loader))], lambda: wait(job.device))
    yield DeviceFinding("training from the loader", len(loader) * batch / fed, "images/s")
    yield DeviceFinding("training on one batch that is ready", len(loader) * batch / alone, "images/s")


def extraction(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Embeddings of image files, next to the model's forward pass alone."""
    speeds = {}
    for name in ("bare forward", "extraction"):
        found = measure(training_job(job, 64, contestant=name, steps=1 if job.quick else 5))
        speeds[name] = found["speed"]
        yield DeviceFinding(name, found["speed"], "images/s", text=found["precision"])
    yield DeviceFinding("extraction / bare forward", speeds["extraction"] / speeds["bare forward"])


def compiled(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Losses with and without torch.compile in float32, and the speed in half precision; a CPU traces without a compiler."""
    exact_float32()
    batches = make_batches(job, 3, 16)
    expected = train_on(make_trainer(job, small_config(job)), batches)
    trainer = make_trainer(job, small_config(job))
    backend = "inductor" if job.is_gpu else "aot_eager"
    compile_backbone(trainer.module.model, backend)
    start = time.perf_counter()
    found = train_on(trainer, batches[:1])
    yield DeviceFinding(f"{backend}: seconds of the first step", time.perf_counter() - start)
    found += train_on(trainer, batches[1:])
    yield agreement(f"{backend}: first loss, difference / loss", terms_difference(found[:1], expected[:1]), ROUNDING)
    yield agreement(f"{backend}: losses of 3 steps, difference / loss", terms_difference(found, expected), 1e-2)
    if not job.is_gpu:
        yield not_measured("speed of compiled training", "needs cuda: it is compiled for GPUs")
        return
    torch._dynamo.reset()
    own = training_job(job, 64)
    plain, fast = measure(own), measure(replace(own, opts=(*own.opts, "SOLVER.COMPILE", "True")))
    yield DeviceFinding(f"batch {own.batch}, compiled", fast["speed"], "images/s", text=memory_text(fast))
    yield DeviceFinding(f"batch {own.batch}, compiled / not", fast["speed"] / plain["speed"])
    yield DeviceFinding(f"batch {own.batch}, compiled: share of the matrix rate", fast["utilisation"])


def million(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Evaluation on the device and exact search on the CPU, of a million embeddings with 768 values."""
    exact_float32()
    number, width, queries = (20_000, 32, 100) if job.quick else (1_000_000, 768, 1000)
    people = make_people(job.seed, queries, number, width)
    on_device = people.to(job.device)
    wait(job.device)
    seconds, _ = timed(lambda: evaluate_retrieval(*on_device), lambda: wait(job.device))
    yield DeviceFinding(f"evaluation of {queries:,} queries x {number:,} x {width}", seconds, "s")
    index, some = ExactIndex(people.gallery.numpy()), people.query[:64]
    index.search(some[:1].numpy(), 20)  # measures the lengths of all rows
    hits: list[Any] = []
    seconds, _ = timed(lambda: hits.extend(index.search(some.numpy(), 20)))
    yield DeviceFinding(f"exact search on the CPU of 64 queries in {number:,} x {width}", seconds, "s")
    best: list[torch.Tensor] = []
    seconds, _ = timed(
        lambda: best.append((some.to(job.device) @ on_device.gallery.T).topk(20).indices), lambda: wait(job.device)
    )
    yield DeviceFinding("the same as one matrix product and topk on the device", seconds, "s")
    same = np.mean([len(set(hit.positions) & set(row)) / 20 for hit, row in zip(hits, best[0].tolist(), strict=True)])
    yield agreement("neighbours of the search that the product does not find, share", 1 - float(same), 1e-3)
