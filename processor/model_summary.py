"""Summary of a model without data: output shapes, parameters, multiply-adds and the memory of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..common.errors import UserError
from ..model import ReidModel, set_fused_attention
from .training.memory_estimate import keep_modes, measure_activations


@dataclass(frozen=True)
class Stage:
    """A part of the model.

    Args:
        name: path of the part in the model.
        shape: output shape for one image, without the batch axis; () if the output is no tensor.
        parameters: number of its parameters, frozen ones included.
        macs: multiply-adds of matrix products, convolutions and attention for one image; norms and activations are not
            counted.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """The stages in the order of the forward pass, their total, and the bytes kept for the backward pass of a batch."""

    stages: list[Stage]
    total: Stage
    num_images: int
    activation_bytes: int


def summarise(model: ReidModel, num_images: int, precision: torch.dtype = torch.float32) -> Summary:
    """Return the summary of the model; the memory is that of training with its attention kernel, frozen and recomputed blocks.

    Args:
        num_images: size of the batch in training; its memory is extrapolated from smaller batches.
        precision: of the activations in training.
    Raises:
        ValueError: no images.
    """
    if num_images < 1:
        raise UserError(f"--batch: {num_images} images; give 1 or more")
    fixed, per_image = measure_activations(model.backbone, model.spec.img_size, precision)
    stages, total = count(model)
    return Summary(stages, total, num_images, fixed + num_images * per_image)


def count(model: ReidModel) -> tuple[list[Stage], Stage]:
    """Return the stages and their total; modes and attention kernels of the model stay as they are."""
    parts = dict(_parts(model))
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(parts, ())
    counter = FlopCounterMode(display=False)
    handles = [part.register_forward_hook(partial(_note, shapes, name)) for name, part in parts.items()]
    with evaluated_plainly(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        embedding = model.embed(torch.zeros(1, 3, *model.spec.img_size, device=next(model.parameters()).device))
    for handle in handles:
        handle.remove()
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    stages = [
        Stage(name, shapes[name], _parameters(part), counts.get(f"{type(model).__name__}.{name}", 0))
        for name, part in parts.items()
    ]
    total = Stage("total", tuple(embedding.shape[1:]), _parameters(model), counter.get_total_flops() // 2)
    return stages, total


@contextmanager
def evaluated_plainly(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with plain attention, since the fused kernels are not counted on every device; both are restored."""
    fused = {part: part.fused_attn for part in model.modules() if hasattr(part, "fused_attn")}
    with keep_modes(model):
        model.eval()
        set_fused_attention(model, False)
        try:
            yield
        finally:
            for part, is_fused in fused.items():
                part.fused_attn = is_fused


def _parts(model: ReidModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of the backbone, with lists of blocks and stages taken apart, then the neck."""
    backbone: Any = model.backbone
    for name, child in backbone.net.named_children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from ((f"backbone.net.{name}.{index}", part) for index, part in child.named_children())
        else:
            yield f"backbone.net.{name}", child
    for name, child in backbone.named_children():
        if name != "net":
            yield f"backbone.{name}", child
    yield "neck", model.neck


def _note(shapes: dict[str, tuple[int, ...]], name: str, module: nn.Module, args: Any, output: Any) -> None:
    shapes[name] = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def table(summary: Summary) -> str:
    """Return the summary as text, one line per stage with parameters or multiply-adds."""
    rows = [stage for stage in summary.stages if stage.parameters or stage.macs]
    width = max(len(stage.name) for stage in rows)
    lines = [f"{'stage':<{width}}  {'output of an image':<20}{'parameters':>14}{'GMACs':>10}"]
    for stage in (*rows, summary.total):
        shape = " x ".join(map(str, stage.shape))
        lines.append(f"{stage.name:<{width}}  {shape:<20}{stage.parameters:>14,}{stage.macs / 1e9:>10.3f}")
    lines.append(
        f"GMACs: 10^9 multiply-adds of matrix products, convolutions and attention, one image. Kept for the backward pass of "
        f"{summary.num_images} images: {summary.activation_bytes / 2**20:,.0f} MiB"
    )
    return "\n".join(lines)
