"""A training that is saved inside an epoch, loaded and continued, against one that was not interrupted: equal to the last bit."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from yacs.config import CfgNode

from vitreid.benchmarks.device.findings import DeviceFinding, DeviceJob, agreement
from vitreid.benchmarks.device.small_training import small_config
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate
from vitreid.processor import Trainer
from vitreid.processor.training.run import build_session


def resume(job: DeviceJob) -> Iterator[DeviceFinding]:
    """Compare with and without torch's deterministic kernels; data augmentation, dropout and stochastic depth draw numbers."""
    with tempfile.TemporaryDirectory(prefix="vitreid-gpu-") as name:
        folder, size = Path(name), (64, 32) if job.quick else (128, 64)
        generate(folder / "synthetic", SyntheticPlan(8, 6, 2, 3, 2 if job.quick else 8, size))
        for precision in ("fp32",) if job.quick else ("bf16", "fp16", "fp32"):
            cfg = config_of(job, folder / "synthetic", precision)
            with deterministic() as warned:
                apart = interrupted_difference(cfg, folder / "last.pth")
            yield agreement(f"{precision}, deterministic kernels: numbers that differ after a resume", apart, 0)
            for message in sorted(
                {str(warning.message).partition(".")[0] for warning in warned if "determin" in str(warning.message)}
            ):
                yield DeviceFinding(f"{precision}: a kernel that is not deterministic", text=message)
        apart = interrupted_difference(cfg, folder / "last.pth")
        yield DeviceFinding(f"{precision}, torch's default kernels: numbers that differ after a resume", apart)


def config_of(job: DeviceJob, root: Path, precision: str) -> CfgNode:
    """Return the config of a training on synthetic people that draws all kinds of random numbers."""
    words = ["DATASETS.NAMES", "market1501", "DATASETS.ROOT_DIR", str(root), "DATALOADER.NUM_WORKERS", "2"]
    words += ["SOLVER.IMS_PER_BATCH", "8", "SOLVER.SEED", str(job.seed), "SOLVER.PRECISION", precision]
    words += ["MODEL.DROP_PATH", "0.2", "MODEL.DROP_OUT", "0.1", "SOLVER.OPTIMIZER_NAME", "AdamW", "SOLVER.EMA", "0.9"]
    return small_config(job, *words)


@contextmanager
def deterministic() -> Iterator[list[warnings.WarningMessage]]:
    """Use deterministic kernels; yield the warnings of those that have no such variant."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield warned
    finally:
        torch.use_deterministic_algorithms(False)


def interrupted_difference(cfg: CfgNode, path: Path) -> int:
    """Return how many numbers differ between an interrupted and an uninterrupted training, weights, averages and optimizer together."""
    whole = build_session(cfg).trainer
    steps = len(whole.loader)
    train(whole, steps)
    first = build_session(cfg).trainer
    train(first, steps // 2)
    torch.save(first.state_dict(), path)
    second = build_session(cfg, resumed=True).trainer
    second.load_state_dict(torch.load(path, weights_only=True))
    train(second, steps - steps // 2)
    pairs = zip(tensors_of(whole), tensors_of(second), strict=True)
    return sum(int((a != b).sum()) if a.shape == b.shape else max(a.numel(), b.numel()) for a, b in pairs)


def train(trainer: Trainer, steps: int) -> None:
    """Train some batches of the first epoch, or of the rest of it."""
    for _ in itertools.islice(trainer.iterations(1), steps):
        pass


def tensors_of(trainer: Trainer) -> list[torch.Tensor]:
    """Return weights, averaged weights and the optimizer's state."""
    average = trainer.average
    state = [value for optimizer in trainer.optimizers for one in optimizer.state.values() for value in one.values()]
    averaged = list(average.model.state_dict().values()) if average is not None else []
    tensors = [*trainer.module.state_dict().values(), *averaged, *state]
    return [tensor.detach().cpu() for tensor in tensors if isinstance(tensor, torch.Tensor)]
