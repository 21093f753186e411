"""One measurement of training or extraction: `python benchmarks/workers/training_worker.py JOB` prints one JSON line."""

from __future__ import annotations

import collections.abc
import copy
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.common.measurement import timed
from vitreid.benchmarks.common.peak_memory import peaks, start_memory, wait
from vitreid.configs import load_config
from vitreid.datasets import Batch, EvalLoader, Record, build_preprocess
from vitreid.datasets.synthetic.dataset import SyntheticPlan, load_synthetic
from vitreid.loss import build_loss
from vitreid.model import build_model
from vitreid.processor import Trainer, TrainingModule, autocast, pick_precision
from vitreid.processor.device import place
from vitreid.processor.embedding.extract import build_embed_settings, extract
from vitreid.processor.training.epoch_loop import compile_backbone
from vitreid.processor.training.run import build_step_options
from vitreid.solver import build_optimizers, build_schedule

ROOT = Path(__file__).resolve().parents[2]
NUM_IDS, CAMERAS = 751, [f"c{camera}" for camera in range(6)]  # Market-1501's training set
BATCHES = 4  # per timed pass of an extraction


@dataclass(frozen=True)
class TrainingJob:
    """Settings of one measurement.

    Args:
        contestant: a name in CONTESTANTS.
        recipe: of ours, without `configs/` and `.yml`, e.g. "market/vit_base".
        original: the original's file for it, below its `configs/`.
        batch: images per step.
        steps: steps to time, after one that is not.
        size: (height, width) of the images, in pixels.
        precision: auto, bf16, fp16 or fp32.
        opts: further options of ours.
        device: "cpu" or "cuda".
        checkout: the original's folder; None = it has none.
    """

    contestant: str
    recipe: str
    original: str
    batch: int
    steps: int
    size: tuple[int, int] = (256, 128)
    precision: str = "auto"
    opts: tuple[str, ...] = ()
    device: str = "cpu"
    checkout: str | None = None
    seed: int = 0


class Ready(NamedTuple):
    """A contestant ready to run: the step to time, its images per call, precision, operations per image (0 = not counted)."""

    step: Callable[[], object]
    images: int
    precision: torch.dtype
    flops: float = 0.0


def measure(job: TrainingJob) -> dict[str, Any]:
    """Build the contestant, call it once, time the other calls.

    Returns:
        images per second (median, slowest and fastest step), memory at the peak above the inputs, share of the peak speed.
    """
    torch.manual_seed(job.seed)
    ready = CONTESTANTS[job.contestant](job)
    before = start_memory(job.device)
    seconds = [timed(ready.step, partial(wait, job.device))[0] for _ in range(job.steps + 1)][1:]
    speeds = sorted(ready.images / value for value in seconds)
    memory, speed = peaks(before, job.device), statistics.median(speeds)
    used = ready.flops * speed / matrix_speed(job.device, ready.precision) if ready.flops else None
    steps = {"speed": speed, "slowest": speeds[0], "fastest": speeds[-1]}
    return {**steps, **memory, "precision": str(ready.precision).removeprefix("torch."), "utilisation": used}


def matrix_speed(device: str, precision: torch.dtype) -> float:
    """Return the measured floating-point operations per second of a large matrix product in that precision."""
    size = 8192 if device == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    seconds = [timed(lambda: left @ right, partial(wait, device))[0] for _ in range(10)]
    return 2 * size**3 / statistics.median(seconds[2:])


def make_batch(job: TrainingJob) -> Batch:
    """Return random images of batch / 4 people, 4 of each."""
    people, cameras = torch.arange(job.batch) // 4, torch.arange(job.batch) % len(CAMERAS)
    images = torch.randn(job.batch, 3, *job.size)
    return Batch(images, people, cameras, torch.zeros_like(people), torch.arange(job.batch)).to(job.device)


def our_config(job: TrainingJob) -> Any:
    """Return the config of our recipe, without pretrained weights."""
    words = ["MODEL.PRETRAIN_CHOICE", "none", "SOLVER.PRECISION", job.precision, "SOLVER.IMS_PER_BATCH", str(job.batch)]
    words += ["INPUT.SIZE_TRAIN", str(job.size), "INPUT.SIZE_TEST", str(job.size), *job.opts]
    return load_config(ROOT / f"configs/{job.recipe}.yml", words)


def our_trainer(
    cfg: Any, cameras: Sequence[str], num_ids: int, device: torch.device, precision: torch.dtype
) -> Trainer:
    """Return the trainer of a new model; batches are given to its `step`."""
    model = place(build_model(cfg, cameras, ()), device, precision)
    module = TrainingModule(model, build_loss(cfg, num_ids, model.embed_dim, model.num_branches)).to(device).train()
    optimizers = build_optimizers(cfg, model, module.loss, scaled=precision is torch.float16)
    options = build_step_options(cfg, device, precision)
    return Trainer(module, optimizers, build_schedule(cfg, 1), loader=(), options=options)  # type: ignore[arg-type]


def our_training(job: TrainingJob) -> Ready:
    """Return a step of our trainer: forward, losses, backward, update."""
    cfg, device = our_config(job), torch.device(job.device)
    precision = pick_precision(job.precision, device)
    trainer = our_trainer(cfg, CAMERAS, NUM_IDS, device, precision)
    model = trainer.module.model
    batch = make_batch(job)
    flops = 3 * forward_flops(model, batch) if job.device == "cuda" else 0.0  # the backward pass is two forward passes
    if cfg.SOLVER.COMPILE:
        compile_backbone(model)
    return Ready(lambda: trainer.step(batch), job.batch, precision, flops)


def forward_flops(model: nn.Module, batch: Batch) -> float:
    """Return the floating-point operations of one image's forward pass."""
    counted = copy.deepcopy(model).eval()  # batch norms in training want more than one image
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted(batch.images[:1], batch.camids[:1])
    return counter.get_total_flops()


def original_training(job: TrainingJob) -> Ready:
    """Return the step of the original's `do_train`, on its own model, loss and optimizer.

    Its automatic mixed precision is for CUDA alone: on a CPU it computes in float32 as written, and other precisions are
    patched in. The centres of its center loss, unused by its recipes, ask for a GPU and are left out.
    """
    cfg, parts = original_parts(job)
    device = torch.device(job.device)
    model = parts.make_model(cfg, NUM_IDS, len(CAMERAS), 1).to(device).train()
    loss, centres = parts.make_loss(cfg, NUM_IDS)
    optimizer = parts.make_optimizer(cfg, model, centres)[0]
    precision = pick_precision(job.precision, device)
    scaler = torch.amp.GradScaler(job.device, enabled=precision is torch.float16)
    batch = make_batch(job)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, precision):
            scores, features = model(batch.images, batch.labels, cam_label=batch.camids, view_label=batch.viewids)
            total = loss(scores, features, batch.labels, batch.camids)
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        total.item()  # it reads the loss after every step

    return Ready(step, job.batch, precision)


def original_parts(job: TrainingJob) -> tuple[Any, Any]:
    """Import the original from its checkout; return its config and its three makers."""
    if job.checkout is None:
        raise ValueError("no checkout given (--transreid)")
    sys.path.insert(0, job.checkout)
    sys.dont_write_bytecode = True  # no __pycache__ in other people's folders
    six: Any = ModuleType("torch._six")  # torch 1.x had it
    six.container_abcs = collections.abc
    sys.modules["torch._six"] = six
    from config import cfg  # type: ignore[import-not-found]
    from model.make_model import make_model  # type: ignore[import-not-found]
    from solver.make_optimizer import make_optimizer  # type: ignore[import-not-found]

    from loss import make_loss  # type: ignore

    sys.modules["loss.make_loss"].CenterLoss = lambda **_: nn.Linear(1, 1)  # type: ignore[attr-defined]
    cfg.merge_from_file(str(Path(job.checkout) / "configs" / job.original))
    cfg.merge_from_list(["MODEL.PRETRAIN_CHOICE", "none", "SOLVER.IMS_PER_BATCH", job.batch])
    cfg.merge_from_list(["INPUT.SIZE_TRAIN", list(job.size), "INPUT.SIZE_TEST", list(job.size)])
    parts: Any = ModuleType("parts")
    parts.make_model, parts.make_loss, parts.make_optimizer = make_model, make_loss, make_optimizer
    return cfg, parts


def our_extraction(job: TrainingJob) -> Ready:
    """Return the extraction of image files, BATCHES batches: decoding, resizing, normalising, forward, unit length."""
    cfg, model, precision = _our_embedder(job)
    folder = TemporaryDirectory(prefix="vitreid-crops-")
    records = generate_crops(Path(folder.name), BATCHES * job.batch, job.size)
    loader = EvalLoader(records, build_preprocess(cfg), batch_size=job.batch, num_workers=2, device=job.device)
    settings, device = build_embed_settings(cfg), torch.device(job.device)

    def step() -> None:
        assert folder.name, "kept until the last call"
        extract(model, loader, settings, device, precision)

    return Ready(step, BATCHES * job.batch, precision)


def generate_crops(folder: Path, number: int, size: tuple[int, int]) -> list[Record]:
    """Return records of `number` synthetic crops, drawn into `folder`."""
    plan = SyntheticPlan(num_train_ids=2, num_test_ids=-(-number // 12), num_cameras=3, images_per_camera=4, size=size)
    return load_synthetic(folder, plan).gallery[:number]


def bare_forward(job: TrainingJob) -> Ready:
    """Return the model's forward pass alone, on images that are there already."""
    _, model, precision = _our_embedder(job)
    images, device = make_batch(job).images, torch.device(job.device)

    @torch.inference_mode()
    def step() -> None:
        for _ in range(BATCHES):
            with autocast(device, precision):
                model.embed(images)

    return Ready(step, BATCHES * job.batch, precision)


def _our_embedder(job: TrainingJob) -> tuple[Any, Any, torch.dtype]:
    cfg, device = our_config(job), torch.device(job.device)
    precision = pick_precision(job.precision, device)
    model = place(build_model(cfg, CAMERAS, ()), device, precision).eval()
    return cfg, model, precision


CONTESTANTS: dict[str, Callable[[TrainingJob], Ready]] = {
    "original": original_training,
    "vitreid": our_training,
    "extraction": our_extraction,
    "bare forward": bare_forward,
}


if __name__ == "__main__":
    sys.exit(reply(TrainingJob, measure))
