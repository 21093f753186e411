"""Does the GPU compute in float32 what the CPU computes: forward passes, losses, gradients, 20 training steps.

The bounds are far above the rounding of float32 (2^-24 = 6e-8 per operation) and below that of TF32 (2^-11 = 5e-4), so a
product in TF32, a missing copy or a race shows. Weights with noise of 1e-6 moved the gradients of ViT-S by 5e-6 and the losses of 8 steps by
3e-5; with noise of 5e-4 the gradients moved by 1e-2 (on a CPU, 16 images of 128x64).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob, agreement
from vitreid.benchmarks.device.small_training import (
    difference,
    exact_float32,
    length_difference,
    make_batches,
    make_trainer,
    small_config,
    terms_difference,
    train_on,
)
from vitreid.benchmarks.workers.training_worker import CAMERAS, NUM_IDS
from vitreid.configs import make_config
from vitreid.loss import HEADS, METRICS, ReidLoss, build_loss
from vitreid.model import ModelSpec, ReidModel
from vitreid.processor.device import place

CPU = torch.device("cpu")
ROUNDING = 1e-4  # of a forward pass, a loss, or gradients
SCALED = 3e-4  # of losses and gradients of logits that are scaled by 30
LEARNT = 3e-3  # of 20 steps: each step enlarges the rounding of the steps before it
SIE: dict[str, Any] = {"cameras": tuple(CAMERAS), "sie_camera": True}
SPECS = {
    "ViT with SIE and JPM": ModelSpec("vit_small_patch16_224", (256, 128), jpm=True, **SIE),
    "DINOv2": ModelSpec("vit_small_patch14_dinov2", (252, 126), stride=(14, 14)),
    "T2T-ViT": ModelSpec("t2t_vit_7", (256, 128)),
    "ResNet-50": ModelSpec("resnet50", (256, 128)),
    "OSNet": ModelSpec("osnet_x1_0", (256, 128)),
}
THIN: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
QUICK_SPECS = {
    "ViT with SIE and JPM": ModelSpec(
        "vit_small_patch16_224", (64, 32), jpm=True, num_parts=2, shift_num=1, **SIE, **THIN
    ),
    "DINOv2": ModelSpec("vit_small_patch14_dinov2", (56, 28), stride=(14, 14), **THIN),
    "CNN": ModelSpec("mobilenetv3_small_050", (64, 64)),
    "OSNet": ModelSpec("osnet_x0_25", (64, 32)),
}


def forward(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare the test embeddings of every kind of backbone with those of the CPU."""
    for tf32 in (False, True) if job.is_gpu else (False,):
        for name, spec in (QUICK_SPECS if job.quick else SPECS).items():
            exact_float32()
            torch.backends.cudnn.allow_tf32 = tf32
            torch.manual_seed(job.seed)
            model = place(ReidModel(spec), CPU, torch.float32).eval()
            batch = make_batches(job, 1, 8, spec.img_size)[0]
            expected = embed(model, batch.images, batch.camids)
            found = embed(model.to(job.device), batch.images, batch.camids)
            if not tf32:
                yield agreement(
                    f"{name}: embeddings, difference / largest value", difference(found, expected), ROUNDING
                )
            else:
                yield DeviceFinding(
                    f"{name}: the same with torch's default, TF32 in convolutions", difference(found, expected)
                )


@torch.no_grad()
def embed(model: ReidModel, images: Tensor, camids: Tensor) -> Tensor:
    """Return the embeddings (B, K, D) before the neck."""
    device = next(model.parameters()).device
    return model(images.to(device), camids.to(device)).before


def losses(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare terms and gradients of each classifier with each metric loss, with centres and a memory."""
    exact_float32()
    people, width = (16, 32) if job.quick else (NUM_IDS, 768)
    random = torch.Generator().manual_seed(job.seed)
    labels = torch.arange(min(people, 16)).repeat_interleave(4)
    batches = [torch.randn(len(labels), 2, width, generator=random) for _ in range(2)]
    for head in (*HEADS, "none"):
        for metric in METRICS:
            options = {"LOSS.ID": head, "LOSS.METRIC": metric, "LOSS.CENTER_WEIGHT": 0.01, "LOSS.MEMORY": 128}
            torch.manual_seed(job.seed)
            own = build_loss(make_config(options), people, width, 2).train()
            terms, gradient = loss_and_gradient(copy.deepcopy(own), batches, labels)
            ours, our_gradient = loss_and_gradient(own.to(job.device), batches, labels)
            apart = max(terms_difference(ours, terms), difference(our_gradient, gradient))
            yield agreement(f"{head} + {metric} + centres + memory: losses and gradients, difference", apart, SCALED)


def loss_and_gradient(loss: ReidLoss, batches: list[Tensor], labels: Tensor) -> tuple[list[dict[str, float]], Tensor]:
    """Return the terms of each batch of embeddings (B, K, D), and the gradient (B, K, D) of the last; the memory holds the others."""
    device = next(loss.parameters()).device
    found: list[dict[str, float]] = []
    gradient = torch.empty(0)
    for batch in batches:
        before = batch.to(device).requires_grad_()
        terms, _ = loss(before, 2 * before, labels.to(device), torch.arange(len(labels), device=device))
        torch.stack(list(terms.values())).sum().backward()
        found.append({name: float(value.detach()) for name, value in terms.items()})
        assert before.grad is not None
        gradient = before.grad
    return found, gradient


def gradients(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare the gradients of all weights after one batch, at once and in micro-batches."""
    exact_float32()
    batch = make_batches(job, 1, 16)[0]
    for pieces in (0, 4):
        words = ["SOLVER.MICRO_BATCH", str(pieces)]
        found, expected = (gradients_on(device, job, batch, words) for device in (job.device, "cpu"))
        how = f"in micro-batches of {pieces}" if pieces else "at once"
        apart = length_difference(found.values(), (expected[name] for name in found))
        yield agreement(f"gradients of a batch {how}, length of the difference / length", apart, ROUNDING)


def gradients_on(device: str, job: DeviceJob, batch: Any, words: list[str]) -> dict[str, Tensor]:
    """Return the gradient of each weight after a batch."""
    trainer = make_trainer(job, small_config(job, *words), device)
    trainer.step(batch.to(device), is_last=False)  # no step, so the gradients stay
    named = trainer.module.named_parameters()
    return {name: parameter.grad.detach().cpu() for name, parameter in named if parameter.grad is not None}


def training(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare 20 training steps: every loss, and the way of the weights."""
    exact_float32()
    batches = make_batches(job, 4, 16) * (1 if job.quick else 5)
    trainers = [make_trainer(job, small_config(job), device) for device in (job.device, "cpu")]
    start = [parameter.detach().cpu().clone() for parameter in trainers[0].module.parameters()]
    found, expected = (train_on(trainer, batches) for trainer in trainers)
    steps = f"{len(batches)} training steps"
    yield agreement(f"{steps}: losses, largest difference / loss", terms_difference(found, expected), LEARNT)
    ways = [moved(trainer.module, start) for trainer in trainers]
    yield agreement(f"{steps}: way of the weights, length of the difference / length", length_difference(*ways), LEARNT)
    first, last = (sum(terms.values()) for terms in (expected[0], expected[-1]))
    yield DeviceFinding(f"loss of the first step {first:.3f}, of the last", last)


def moved(module: torch.nn.Module, start: list[Tensor]) -> list[Tensor]:
    """Return how far each weight is from its start."""
    return [parameter.detach().cpu() - before for parameter, before in zip(module.parameters(), start, strict=True)]
