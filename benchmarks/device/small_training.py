"""What several parts train: a config, a trainer and batches, equal on every device for one seed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from yacs.config import CfgNode

from vitreid.benchmarks.device.findings import DeviceJob
from vitreid.benchmarks.workers.training_worker import CAMERAS, NUM_IDS, ROOT, our_trainer
from vitreid.configs import load_config
from vitreid.datasets import Batch
from vitreid.processor import Trainer

TINY = ("MODEL.EMBED_DIM", "32", "MODEL.DEPTH", "2", "MODEL.NUM_HEADS", "2")


def exact_float32() -> None:
    """Compute float32 in float32: torch's convolutions on a GPU use TF32, with 10 bits of mantissa, unless this is called."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def image_size(job: DeviceJob) -> tuple[int, int]:
    """Return (height, width) in pixels."""
    return (64, 32) if job.quick else (256, 128)


def small_config(job: DeviceJob, *words: str, recipe: str = "market/vit_transreid") -> CfgNode:
    """Return the config of a ViT-S (quick: of 2 blocks) with random weights, SIE and JPM, without stochastic depth, in float32 unless `words` say otherwise."""
    size = str(image_size(job))
    common = [
        "MODEL.PRETRAIN_CHOICE",
        "none",
        "MODEL.DEVICE",
        job.device,
        "INPUT.SIZE_TRAIN",
        size,
        "INPUT.SIZE_TEST",
        size,
    ]
    common += [
        "MODEL.NAME",
        "vit_small_patch16_224",
        "MODEL.DROP_PATH",
        "0.0",
        "SOLVER.PRECISION",
        "fp32",
        *(TINY if job.quick else ()),
    ]
    return load_config(ROOT / f"configs/{recipe}.yml", [*common, *words])


def make_trainer(
    job: DeviceJob, cfg: CfgNode, device: str | None = None, precision: torch.dtype = torch.float32
) -> Trainer:
    """Return a trainer; its weights depend on the seed and the config only.

    Args:
        device: None = that of the job.
    """
    torch.manual_seed(job.seed)
    return our_trainer(cfg, CAMERAS, NUM_IDS, torch.device(device or job.device), precision)


def make_batches(job: DeviceJob, number: int, size: int, image: tuple[int, int] | None = None) -> list[Batch]:
    """Return `number` batches of `size` images of size / 4 people, 4 of each, on the CPU.

    Each person has colours, each image another strength of noise: distances differ, so rounding does not change which are mined.

    Args:
        image: (height, width) in pixels; None = that of the job.
    """
    random = torch.Generator().manual_seed(job.seed)
    return [_make_batch(random, size, image or image_size(job)) for _ in range(number)]


def _make_batch(random: torch.Generator, size: int, image: tuple[int, int]) -> Batch:
    people = torch.randperm(NUM_IDS, generator=random)[: -(-size // 4)].repeat_interleave(4)[:size]
    cameras = torch.randint(len(CAMERAS), (size,), generator=random)
    colours = torch.randn(NUM_IDS, 3, 4, 1, generator=random)[people]  # (B, 3, 4, 1): of four bands from head to foot
    bands = torch.nn.functional.interpolate(colours, size=image)
    strength = torch.linspace(0.2, 1.0, size)[torch.randperm(size, generator=random)].view(-1, 1, 1, 1)
    images = bands + strength * torch.randn(size, 3, *image, generator=random)
    return Batch(images, people, cameras, torch.zeros_like(people), torch.arange(size))


def train_on(trainer: Trainer, batches: Iterable[Batch]) -> list[dict[str, float]]:
    """Train on the batches; return the terms of each step."""
    device = trainer.options.device
    found = [trainer.step(batch.to(device))[0] for batch in batches]
    return [{name: float(value) for name, value in terms.items()} for terms in found]


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, in units of the largest expected value; infinite if `found` is not finite."""
    ours, theirs = (tensor.detach().to("cpu", torch.float64) for tensor in (found, expected))
    if not torch.isfinite(ours).all():
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def length_difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """Return the length of the difference of two lists of tensors, each list read as one vector, in units of the expected length."""
    pairs = [
        (a.detach().to("cpu", torch.float64), b.detach().to("cpu", torch.float64))
        for a, b in zip(found, expected, strict=True)
    ]
    apart = sum(float((a - b).square().sum()) for a, b in pairs)
    return (apart / max(sum(float(b.square().sum()) for _, b in pairs), 1e-60)) ** 0.5


def terms_difference(found: list[dict[str, float]], expected: list[dict[str, float]]) -> float:
    """Return the largest difference of a term, in units of its expected value."""
    pairs = [(ours[name], theirs[name]) for ours, theirs in zip(found, expected, strict=True) for name in theirs]
    return max(abs(a - b) / max(abs(b), 1e-6) if a == a else float("inf") for a, b in pairs)
