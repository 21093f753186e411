"""Losses in float32, also under autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def in_float32(forward: Callable[..., Result]) -> Callable[..., Result]:
    """Run a module's `forward(first_tensor, ...)` outside autocast, with its half-precision tensors as float32.

    Distances between close embeddings and margins of logits scaled by 30 do not survive fp16 or bf16.
    """

    @functools.wraps(forward)
    def wrapper(self: Any, first: Tensor, *tensors: Tensor | None) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return forward(self, widen(first), *(None if tensor is None else widen(tensor) for tensor in tensors))

    return wrapper


def widen(tensor: Tensor) -> Tensor:
    """Return a half-precision tensor as float32, any other as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
