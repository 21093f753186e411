"""Half precision against float32 on the same device: embeddings and losses; and loss scaling that skips steps.

bfloat16 has 8 bits of mantissa (2^-8 = 0.4 % per rounding), float16 11 (2^-11 = 0.05 %). The bounds leave room for the
roundings of all layers, and are below what a wrong cast or a lost scale would change.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vitreid.benchmarks.device.findings import AGREEMENT, DeviceFinding, DeviceJob, agreement
from vitreid.benchmarks.device.small_training import (
    exact_float32,
    make_batches,
    make_trainer,
    small_config,
    terms_difference,
    train_on,
)
from vitreid.processor import Trainer
from vitreid.processor.device import autocast

# dtype -> bounds of: 1 - cosine of an embedding with that of float32; difference of a first loss; of 20 losses, each / loss
BOUNDS = {torch.bfloat16: (2e-3, 2e-2, 1e-1), torch.float16: (1e-4, 5e-3, 1e-1)}
SAFE_SCALE, HUGE_SCALE = 2.0**8, 2.0**60  # of float16: no step is skipped; all gradients overflow


def losses(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare embeddings, the losses of the first step, and those of 20 steps."""
    exact_float32()
    batches = make_batches(job, 4, 16) * (1 if job.quick else 5)
    expected = train_on(make_trainer(job, small_config(job)), batches)
    for precision, (bent, first, all_steps) in BOUNDS.items():
        name = str(precision).removeprefix("torch.")
        trainer = make_trainer(job, small_config(job), precision=precision)
        if precision is torch.float16:  # torch's first scale skips steps, and the losses would be those of other steps
            trainer.scaler = torch.amp.GradScaler(job.device, init_scale=SAFE_SCALE)
        apart = bend(trainer, batches[0].images)
        yield agreement(f"{name}: embeddings, 1 - cosine with float32", apart, bent)
        found = train_on(trainer, batches)
        yield agreement(
            f"{name}: losses of the first step, difference / loss", terms_difference(found[:1], expected[:1]), first
        )
        steps = f"losses of {len(batches)} steps"
        yield agreement(f"{name}: {steps}, difference / loss", terms_difference(found, expected), all_steps)


@torch.no_grad()
def bend(trainer: Trainer, images: torch.Tensor) -> float:
    """Return the largest 1 - cosine of a global embedding in the trainer's precision with the one in float32."""
    model, device = trainer.module.model.eval(), trainer.options.device
    images = images.to(device)
    exact = model(images).before[:, 0].double()
    with autocast(device, trainer.options.precision):
        found = model(images).before[:, 0].double()
    trainer.module.train()
    return float(1 - torch.nn.functional.cosine_similarity(found, exact).min())


def scaling(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Start float16 with a scale at which gradients overflow: those steps must leave the weights, and the scale must come down."""
    batches = make_batches(job, 1, 16)
    trainer = make_trainer(job, small_config(job), precision=torch.float16)
    growth = 2.0**-8  # of the scale after an overflow: torch's 2^-1 would take dozens of steps
    trainer.scaler = torch.amp.GradScaler(job.device, init_scale=HUGE_SCALE, backoff_factor=growth)
    weights = [parameter.detach().clone() for parameter in trainer.module.parameters()]
    skipped = 0
    while skipped < 12:
        scale = trainer.scaler.get_scale()
        terms = train_on(trainer, batches)
        if trainer.scaler.get_scale() >= scale:
            break
        skipped += 1
        if skipped == 1:
            same = all(torch.equal(a, b) for a, b in zip(weights, trainer.module.parameters(), strict=True))
            yield agreement("a step whose gradients overflow changes the weights (1 = yes)", float(not same), 0)
    yield DeviceFinding("steps skipped until the scale fits", skipped, kind=AGREEMENT, least=1, most=11)
    changed = any(not torch.equal(a, b) for a, b in zip(weights, trainer.module.parameters(), strict=True))
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in trainer.module.parameters())
    yield agreement(
        "the next step leaves the weights as they are, or not finite (1 = yes)", float(not (changed and finite)), 0
    )
    expected = train_on(make_trainer(job, small_config(job), precision=torch.float16), batches)
    yield agreement("its losses, difference to a run that skipped none / loss", terms_difference(terms, expected), 1e-3)
    yield DeviceFinding("scale at which training continues", trainer.scaler.get_scale())
