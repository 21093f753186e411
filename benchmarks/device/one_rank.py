"""Training in a process group of one rank, NCCL on a GPU and gloo on a CPU, against training without a group.

One GPU cannot show that ranks exchange the right numbers: tests with two CPU processes do. It shows that the collectives, DDP, FSDP and
SyncBatchNorm's kernels run on tensors of the GPU, and change nothing.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from vitreid.benchmarks.device.agreement import LEARNT, ROUNDING
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
from vitreid.datasets import Batch
from vitreid.loss import build_loss
from vitreid.model import ModelSpec, ReidModel, build_model
from vitreid.processor import Trainer, TrainingModule
from vitreid.processor.device import place
from vitreid.processor.distributed.ddp import ReplicatedBackbone, sync_batch_norms
from vitreid.processor.distributed.fsdp import ShardedBackbone, gather_state, shard
from vitreid.processor.distributed.process_group import Ranks
from vitreid.processor.training.run import build_step_options
from vitreid.solver import build_optimizers, build_schedule

ONE = Ranks(0, 1)
TIMEOUT = timedelta(seconds=60)


@contextmanager
def group_of_one(job: DeviceJob) -> Iterator[str]:
    """Join a process group of one rank on a free port, as torchrun's ranks join theirs; yield the backend."""
    backend = "cpu:gloo,cuda:nccl" if job.is_gpu else "gloo"
    if job.is_gpu:
        torch.cuda.set_device(0)
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True, timeout=TIMEOUT)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=TIMEOUT)
    try:
        yield "NCCL" if job.is_gpu else "gloo"
    finally:
        dist.destroy_process_group()


def replicas(job: DeviceJob) -> Iterator[DeviceFinding]:
    """DDP, gathered embeddings and averaged gradients, at once and in micro-batches."""
    exact_float32()
    batches = make_batches(job, 3, 16)
    expected = train_on(make_trainer(job, small_config(job)), batches)
    with group_of_one(job) as backend:
        yield collective(job, backend)
        for pieces in (0, 4):
            trainer = make_trainer(job, small_config(job, "SOLVER.MICRO_BATCH", str(pieces)))
            trainer.module.spread = ReplicatedBackbone(ONE)
            found = train_on(trainer, batches)
            how = f"micro-batches of {pieces}" if pieces else "whole batches"
            yield agreement(
                f"{backend}, DDP, {how}: losses of 3 steps, difference / loss",
                terms_difference(found, expected),
                LEARNT,
            )
            yield agreement(f"{backend}, DDP, {how}: first loss", terms_difference(found[:1], expected[:1]), ROUNDING)


def collective(job: DeviceJob, backend: str) -> DeviceFinding:
    """Sum and gather numbers of one rank, which must stay as they are."""
    own = torch.arange(8, device=job.device, dtype=torch.float32)
    total, rows = own.clone(), torch.empty_like(own)
    dist.all_reduce(total)
    dist.all_gather_into_tensor(rows, own)
    return agreement(f"{backend}: sum and gather of one rank", max(difference(total, own), difference(rows, own)), 0)


def shards(job: DeviceJob) -> Iterator[DeviceFinding]:
    """FSDP: the losses of 3 steps, the gathered weights, and a resume from them."""
    exact_float32()
    batches = make_batches(job, 3, 16)
    plain = make_trainer(job, small_config(job))
    expected = train_on(plain, batches)
    with group_of_one(job) as backend:
        trainer = sharded_trainer(job)
        found = train_on(trainer, batches)
        yield agreement(
            f"{backend}, FSDP: losses of 3 steps, difference / loss", terms_difference(found, expected), LEARNT
        )
        state = stored(gather_state(trainer.state_dict(), ONE))
        own, other = (
            {name: value for name, value in side.items() if value.is_floating_point()}
            for side in (state["module"], plain.module.state_dict())
        )
        apart = length_difference((own[name] for name in other), other.values())
        yield agreement(f"{backend}, FSDP: gathered weights, length of the difference / length", apart, ROUNDING)
        del state["progress"]  # it sets the rates of the schedule, which these steps do without
        resumed = sharded_trainer(job)
        resumed.load_state_dict(state)
        again, on = train_on(resumed, batches), train_on(trainer, batches)
        yield agreement(
            f"{backend}, FSDP: losses after a resume, difference / loss", terms_difference(again, on), ROUNDING
        )


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as a checkpoint gives it back, which shares no memory with the trainer."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)  # type: ignore[no-any-return]


def sharded_trainer(job: DeviceJob) -> Trainer:
    """Return the trainer of `make_trainer` with its model and loss sharded over one rank."""
    cfg, device = small_config(job), torch.device(job.device)
    torch.manual_seed(job.seed)
    model = place(build_model(cfg, CAMERAS, ()), device, torch.float32)
    module = TrainingModule(model, build_loss(cfg, NUM_IDS, model.embed_dim, model.num_branches)).to(device).train()
    module.spread = ShardedBackbone(ONE)
    for part in (module.model, module.loss):
        shard(part, device, ONE)
    optimizers, options = (
        build_optimizers(cfg, module.model, module.loss),
        build_step_options(cfg, device, torch.float32),
    )
    loader: Any = ()
    return Trainer(module, optimizers, build_schedule(cfg, 1), loader, options)


def batch_norms(job: DeviceJob) -> Iterator[DeviceFinding]:
    """SyncBatchNorm: a whole CNN, where one rank takes torch's plain kernel, and its own kernels called directly."""
    exact_float32()
    spec = ModelSpec("mobilenetv3_small_050", (64, 64))
    torch.manual_seed(job.seed)
    plain = place(ReidModel(spec), torch.device(job.device), torch.float32).train()
    synced = copy.deepcopy(plain)
    batch = make_batches(job, 1, 16, spec.img_size)[0].to(job.device)
    with group_of_one(job) as backend:
        sync_batch_norms(synced.backbone, torch.device(job.device))
        count = sum(isinstance(part, nn.SyncBatchNorm) for part in synced.backbone.modules())
        yield DeviceFinding("batch norms that were converted", count)
        pairs = [cnn_gradients(model, batch) for model in (synced, plain)]
        yield agreement(
            f"{backend}: gradients of a CNN, length of the difference / length", length_difference(*pairs), LEARNT
        )
        yield agreement(
            f"{backend}: SyncBatchNorm's kernels, output and gradients, difference", kernel_difference(job), ROUNDING
        )


def cnn_gradients(model: ReidModel, batch: Batch) -> list[torch.Tensor]:
    """Return the gradients of the sum of squares of the embeddings."""
    model.backbone(batch.images, None, None).float().square().sum().backward()
    return [parameter.grad for parameter in model.backbone.parameters() if parameter.grad is not None]


def kernel_difference(job: DeviceJob) -> float:
    """Return the largest difference between SyncBatchNorm's kernels and the batch norm of the CPU, output and gradients."""
    from torch.nn.modules._functions import SyncBatchNorm  # its module-level class takes the plain kernel for one rank

    random = torch.Generator().manual_seed(job.seed)
    values, weights = torch.randn(8, 16, 6, 4, generator=random), torch.randn(8, 16, 6, 4, generator=random)
    found: list[Any] = []
    expected: list[Any] = []
    for device, results in ((job.device, found), ("cpu", expected)):
        images = values.to(device).requires_grad_()
        weight, bias = (torch.full((16,), fill, device=device, requires_grad=True) for fill in (1.5, 0.5))
        mean, variance = torch.zeros(16, device=device), torch.ones(16, device=device)
        if results is found:
            out = SyncBatchNorm.apply(images, weight, bias, mean, variance, 1e-5, 0.1, dist.group.WORLD, 1)
        else:
            out = F.batch_norm(images, mean, variance, weight, bias, True, 0.1, 1e-5)
        (out * weights.to(device)).sum().backward()
        results += [out, images.grad, weight.grad, bias.grad, mean, variance]
    return max(difference(a, b) for a, b in zip(found, expected, strict=True))
