"""The memory of a training step: what is estimated before training, and what the GPU's allocator measures in real steps."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob, aim, not_measured
from vitreid.benchmarks.device.small_training import image_size, make_batches, make_trainer, small_config
from vitreid.processor import pick_precision
from vitreid.processor.training.memory_estimate import GB, measure_step, num_bytes

APART = 0.15  # between estimate and measurement
NAMED = ("MODEL.NAME", "vit_base_patch16_224", "SOLVER.PRECISION", "auto")
PIECES = {size: ("SOLVER.MICRO_BATCH", str(size)) for size in (8, 16, 64)}
RECOMPUTED = ("MODEL.CHECKPOINT_BLOCKS", "True")
CASES: tuple[tuple[int, str, tuple[str, ...]], ...] = (  # images in a batch, how it is trained on, options
    (64, "", ()),
    (256, "", ()),
    *((256, f", micro-batch {size}", options) for size, options in PIECES.items()),
    (64, ", recomputed blocks", RECOMPUTED),
    (256, ", recomputed blocks", RECOMPUTED),
)


def estimates(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare estimate and measurement of ViT-B; on a CPU, which counts no allocations, only estimate and train."""
    for batch, how, options in CASES:
        size = batch // 8 if job.quick else batch
        name = f"batch {size}{how}"
        estimated, measured, reserved = step_memory(job, size, options)
        yield DeviceFinding(f"{name}: estimate", estimated / GB, "GB")
        if measured is None:
            yield not_measured(f"{name}: measured", "needs cuda: a CPU counts no allocations")
            continue
        yield DeviceFinding(f"{name}: measured", measured / GB, "GB", text=f"reserved {reserved / GB:.3g}")
        apart, what = abs(estimated / measured - 1), f"{name}: estimate and measurement apart, share of the measurement"
        yield DeviceFinding(what, apart) if job.quick else aim(what, apart, most=APART)


def step_memory(job: DeviceJob, size: int, options: tuple[str, ...]) -> tuple[int, int | None, int]:
    """Return the bytes of a step of `size` images: estimated, allocated at the peak without the batch, and reserved."""
    start = start_allocations(job)
    cfg = small_config(job, *NAMED, *options, recipe="market/vit_base")
    precision = pick_precision("auto", torch.device(job.device))
    trainer = make_trainer(job, cfg, precision=precision)
    at_once = min(trainer.options.micro_batch or size, size)
    estimated = measure_step(trainer.module, trainer.optimizers, None, image_size(job), precision).peak(at_once)
    batch = make_batches(job, 1, size)[0].to(job.device)
    trainer.step(batch)  # creates the optimizer's state
    if not job.is_gpu:
        return estimated, None, 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        trainer.step(batch)
    torch.cuda.synchronize()
    own = num_bytes([batch.images, batch.labels, batch.camids, batch.viewids, batch.index])
    return estimated, torch.cuda.max_memory_allocated() - start - own, torch.cuda.max_memory_reserved()


def start_allocations(job: DeviceJob) -> int:
    """Free what earlier work has left; return the bytes that are allocated all the same."""
    gc.collect()
    if not job.is_gpu:
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()
