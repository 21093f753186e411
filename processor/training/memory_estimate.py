"""Estimate of the memory of a training step, logged before training starts."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ...common.memory_limits import available_memory
from ...model.parts.blocks import ClassTokenBlock
from ..device import autocast
from .micro_batches import fixed_statistics
from .trainer import Trainer
from .training_module import TrainingModule

logger = logging.getLogger(__name__)
GB = 1e9
FEW, MORE = 2, 4  # two batch sizes; the difference of their activations gives the bytes per image


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step.

    Args:
        weights, gradients, optimizer, average: tensors of model and loss; all but the gradients are held between steps.
        fixed, per_image: tensors that the forward pass keeps for the backward pass: independent of the batch size (weights cast
            by autocast), and per image.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    fixed: int
    per_image: int

    def held(self) -> int:
        """Return the bytes held between steps."""
        return self.weights + self.optimizer + self.average

    def peak(self, num_images: int) -> int:
        """Return the approximate peak, with `num_images` embedded at once.

        A backward pass frees activations while it allocates gradients, but gradients of earlier passes may exist already, and
        freed blocks seldom have the size that is needed next: the plain sum is closest to measurements.
        """
        return self.held() + self.gradients + self.fixed + num_images * self.per_image

    def largest_piece(self, available: int) -> int:
        """Return the largest power of two of images that fit into `available` bytes at once, or 0."""
        room = available - self.peak(0)
        number = room // max(self.per_image, 1)
        return 1 << (number.bit_length() - 1) if number > 0 else 0


def measure_step(
    module: TrainingModule,
    optimizers: Iterable[Optimizer],
    average: nn.Module | None,
    size: tuple[int, int],
    precision: torch.dtype,
) -> StepMemory:
    """Count the memory of a step: existing tensors, and what autograd keeps in forward passes of a few images.

    Statistics of norms and random states stay as they are.

    Args:
        module: on its device.
        average: the model with averaged weights, or None.
        size: (height, width) of an image in pixels.
    """
    fixed, per_image = measure_activations(module.model.backbone, size, precision)
    return StepMemory(
        weights=num_bytes([*module.parameters(), *module.buffers()]),
        gradients=num_bytes(parameter for parameter in module.parameters() if parameter.requires_grad),
        optimizer=sum(map(measure_optimizer_state, optimizers)),
        average=num_bytes([*average.parameters(), *average.buffers()]) if average is not None else 0,
        fixed=fixed,
        per_image=per_image,
    )


def measure_activations(backbone: nn.Module, size: tuple[int, int], precision: torch.dtype) -> tuple[int, int]:
    """Return the bytes kept for the backward pass: independent of the batch size, and per image."""
    few, more = (kept_bytes(backbone, number, size, precision) for number in (FEW, MORE))
    per_image = max((more - few) // (MORE - FEW), 0)
    return max(few - FEW * per_image, 0), per_image


def measure_optimizer_state(optimizer: Optimizer) -> int:
    """Return the bytes of the optimizer's state, or those that its first step will create.

    The optimizer's own `step` runs on zeros of each shape, one at a time, in a copy without state.
    """
    if optimizer.state:
        return num_bytes(state_tensors(optimizer))
    trial: Any = object.__new__(type(optimizer))
    trial.__dict__.update(optimizer.__dict__)
    total = 0
    for group in optimizer.param_groups:
        shapes = Counter((tuple(p.shape), p.dtype, p.device) for p in group["params"])
        for (shape, dtype, device), number in shapes.items():
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
            parameter.grad = torch.zeros_like(parameter)
            trial.state, trial.param_groups = defaultdict(dict), [{**group, "params": [parameter]}]
            with keep_random_state(device):
                trial.step()
            total += number * num_bytes(state_tensors(trial))
    return total


def state_tensors(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield the tensors of an optimizer's state."""
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def kept_bytes(backbone: nn.Module, num_images: int, size: tuple[int, int], precision: torch.dtype) -> int:
    """Return the bytes that the forward pass of `num_images` keeps for the backward pass, without the weights.

    Of recomputed blocks (MODEL.CHECKPOINT_BLOCKS) these are the input of each and the inside of one.
    """
    recomputed = recomputed_blocks(backbone)
    if not recomputed:
        return _kept(backbone, num_images, size, precision, [])
    outside = _kept(backbone, num_images, size, precision, recomputed)
    with all_kept(backbone):
        everything = _kept(backbone, num_images, size, precision, [])
    full = sum(
        not isinstance(block, ClassTokenBlock) for block in recomputed
    )  # the inside of the others is nearly empty
    return outside + (everything - outside) // max(full, 1)


def _kept(
    backbone: nn.Module, num_images: int, size: tuple[int, int], precision: torch.dtype, recomputed: list[nn.Module]
) -> int:
    device = next(backbone.parameters()).device
    own = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    seen: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    def see_input(block: nn.Module, args: tuple[Tensor, ...]) -> None:
        see(args[0])

    handles = [block.register_forward_pre_hook(see_input) for block in recomputed]
    images = torch.zeros(num_images, 3, *size, device=device)
    try:
        with (
            as_in_training(backbone),
            autocast(device, precision),
            torch.autograd.graph.saved_tensors_hooks(see, lambda kept: kept),
        ):
            features = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    del features  # its graph kept the counted tensors alive
    return sum(seen.values())


def recomputed_blocks(backbone: Any) -> list[nn.Module]:
    """Return the blocks that are recomputed in the backward pass."""
    if not getattr(backbone, "recompute", False):
        return []
    return [*backbone.net.blocks, *([backbone.jigsaw.block] if backbone.jigsaw is not None else [])]


@contextmanager
def all_kept(backbone: Any) -> Iterator[None]:
    """Do not recompute blocks within the context."""
    parts = [part for part in (backbone, backbone.jigsaw) if part is not None]
    for part in parts:
        part.recompute = False
    try:
        yield
    finally:
        for part in parts:
            part.recompute = True


@contextmanager
def as_in_training(backbone: nn.Module) -> Iterator[None]:
    """Training mode that leaves no trace in statistics, random draws or modes."""
    device = next(backbone.parameters()).device
    with keep_modes(backbone), keep_random_state(device):
        backbone.train()
        with fixed_statistics(backbone):
            yield


@contextmanager
def keep_modes(model: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of every module at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def keep_random_state(device: torch.device) -> AbstractContextManager:
    """Return a context that restores the random generators of the CPU and of `device` at the end."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def measure_peak(module: TrainingModule, num_images: int, size: tuple[int, int], precision: torch.dtype) -> int:
    """Return the peak of bytes allocated on the GPU in a forward and backward pass of the backbone.

    Raises:
        torch.OutOfMemoryError: the images do not fit.
    """
    backbone = module.model.backbone
    device = next(backbone.parameters()).device
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with as_in_training(backbone):
            with autocast(device, precision):
                features = backbone(torch.zeros(num_images, 3, *size, device=device))
            if features.requires_grad:
                features.float().sum().backward()
    finally:
        module.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated(device)


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on the device (0 = unknown)."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_memory() if device.type == "cpu" else 0


def report_memory(trainer: Trainer, num_images: int, size: tuple[int, int]) -> None:
    """Log the estimate of a step; if it does not fit, warn and suggest a SOLVER.MICRO_BATCH that does.

    Args:
        num_images: images per batch on this rank.
        size: (height, width) of an image in pixels.
    """
    module, device, precision = trainer.module, trainer.options.device, trainer.options.precision
    average = trainer.average.model if trainer.average is not None else None
    memory = measure_step(module, trainer.optimizers, average, size, precision)
    at_once = min(trainer.options.micro_batch or num_images, num_images)
    logger.info(
        "memory: about %.1f GB at micro-batch %d: weights %.2f, optimizer %.2f, gradients %.2f, activations %.2f + %.3f per image%s",
        memory.peak(at_once) / GB,
        at_once,
        *((memory.weights + memory.average) / GB, memory.optimizer / GB, memory.gradients / GB),
        *(memory.fixed / GB, memory.per_image / GB),
        _measured(module, at_once, size, precision) if device.type == "cuda" else "",
    )
    states = sum(num_bytes(state_tensors(optimizer)) for optimizer in trainer.optimizers)
    held = memory.weights + memory.average + states
    free = free_memory(device)
    if free and memory.peak(at_once) > free + held:
        remedy = _remedy(module.model.backbone, memory.largest_piece(free + held))
        logger.warning(
            "SOLVER.MICRO_BATCH: a step of %d images at once takes about %.2g GB, %.2g GB are there; %s",
            *(at_once, memory.peak(at_once) / GB, (free + held) / GB, remedy),
        )


def _measured(module: TrainingModule, num_images: int, size: tuple[int, int], precision: torch.dtype) -> str:
    if any(isinstance(part, nn.SyncBatchNorm) for part in module.model.backbone.modules()):
        return ""  # the pass waits for other ranks, which would block if this one ran out of memory
    try:
        return f"; measured, without optimizer state: {measure_peak(module, num_images, size, precision) / GB:.2f}"
    except torch.OutOfMemoryError:
        return "; measured: does not fit"


def _remedy(backbone: nn.Module, piece: int) -> str:
    if piece:
        has_batch_norms = any(isinstance(module, _BatchNorm) for module in backbone.modules())
        return f"set SOLVER.MICRO_BATCH {piece}{'' if has_batch_norms else ', which gives the same gradients'}"
    if recomputed_blocks(backbone):
        return "not even one image fits: take a smaller MODEL.NAME or INPUT.SIZE_TRAIN"
    return "not even one image fits: set MODEL.CHECKPOINT_BLOCKS True or take a smaller MODEL.NAME"
