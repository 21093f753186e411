"""Device and precision of a run, detected unless the config sets them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn

from ..common.errors import UserError
from ..model import PooledBackbone, ReidModel, set_fused_attention

DEVICES = ("cuda", "mps", "cpu")
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Model = TypeVar("Model")


def pick_device(name: str = "auto", possible: Sequence[str] = DEVICES, key: str = "MODEL.DEVICE") -> torch.device:
    """Return the device called `name`; "auto" takes cuda, then mps, then cpu.

    Args:
        possible: the devices that the model can use.
        key: the option or argument that holds the name, for messages.
    Raises:
        ValueError: that device is not available here, or not possible.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name not in ("auto", *possible):
        raise UserError(f"{key}: the model's runtime computes on {' or '.join(possible)}, not on {name}; use auto")
    available = {kind: there and kind in possible for kind, there in available.items()}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(f"{key}: {name} is not available on this machine; found {here}; choose auto")
    return torch.device(name)


def pick_precision(
    name: str, device: torch.device, possible: Sequence[str] = tuple(PRECISIONS), key: str = "SOLVER.PRECISION"
) -> torch.dtype:
    """Return the dtype called `name`; "auto" takes bf16 where the hardware supports it, else fp16 on cuda, else fp32.

    Args:
        possible: the precisions that the model can compute in; "auto" takes a single one.
        key: as for `pick_device`.
    Raises:
        ValueError: that precision is not possible.
    """
    if name not in ("auto", *possible):
        raise UserError(
            f"{key}: the model is a finished file with its own precision, {name} cannot be chosen; use auto"
        )
    if name != "auto":
        return PRECISIONS[name]
    if len(possible) == 1:
        return PRECISIONS[possible[0]]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions (AMX, AVX512_BF16); without them bf16 is slower than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Return the autocast context of that dtype; an empty context for float32."""
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def place(model: Model, device: torch.device, precision: torch.dtype) -> Model:
    """Move the model to the device, with the attention kernel and memory format that are fastest there.

    Channels-last convolutions are 1.1 to 1.2 times as fast in a ResNet-50 on a CPU; the matrix units of GPUs need them.

    Args:
        model: a `ReidModel`, or any other `EmbeddingModel`, which is only moved.
    """
    placed = cast(Any, model)
    network: ReidModel | None = placed.network
    if network is not None:
        set_fused_attention(network, fused=prefers_fused_attention(device, precision))
        if isinstance(network.backbone, PooledBackbone):
            network.to(memory_format=torch.channels_last)
    return placed.to(device)


def with_cast_weights(model: Model, device: torch.device, precision: torch.dtype) -> Model:
    """Return a copy for inference whose weights are stored as autocast would cast them at every call: the same embeddings, bit by bit.

    A single image takes 0.85 (ViT-Base), 0.90 (ResNet-50), 0.91 (ViT-Small) and 0.97 (ViT-Tiny) of the time, a batch of 32 the same (one thread
    with AVX512_BF16). The copy needs half as much memory again for the weights. It shares normalisations and tables with the model.

    Args:
        model: where `place` put it; it is not changed. It is returned itself on other devices, in float32, and if it is none of ours.
    """
    network: ReidModel | None = cast(Any, model).network
    if network is None or device.type != "cpu" or precision is torch.float32:
        return model
    shared: dict[int, Any] = {id(value): value for value in (*network.parameters(), *network.buffers())}
    for layer in network.modules():
        if type(layer) in (nn.Linear, nn.Conv2d):  # others may compute with the weights before they are cast
            for value in layer.parameters(recurse=False):
                shared[id(value)] = nn.Parameter(value.detach().to(precision), requires_grad=False)
    return cast(Model, copy.deepcopy(network, shared))


def prefers_fused_attention(device: torch.device, precision: torch.dtype) -> bool:
    """Return whether torch's fused attention is the faster one.

    Measured on blocks of ViT-Base, batch 8, one thread of a CPU with AVX512_BF16: plain products take 0.87 (129 tokens) and 0.92
    (211) of fused attention's time in bfloat16 training, 0.94 and 0.97 in inference; in float32 1.01 to 1.04. The choice is a
    fixed rule: a measurement at the start has noise, which would change the last bits of a run.
    """
    return device.type != "cpu" or precision is torch.float32
