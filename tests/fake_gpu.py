"""A GPU without a driver: tensors that have a device, a shape and a type but no values (`torch._subclasses.FakeTensorMode`).

Operators check devices and types as on a GPU. Reading a value (`.item()`) raises, and so does an operator on tensors of two devices.
A forward pass works; a backward pass needs the driver's streams.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_dot_product")
COPIES = ("_to_copy", "to", "_local_scalar_dense", "copy_")


class Calls(TorchDispatchMode):
    """Records the operators that a GPU would run.

    Args:
        to_cpu: names of operators that copy from the GPU to the CPU; each makes the CPU wait.
        types: phase -> types of the numbers that products take, in `phase`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_cpu: list[str] = []
        self.types: dict[str, set[torch.dtype]] = defaultdict(set)
        self.phase = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator and record it."""
        given = [one for one in args if isinstance(one, Tensor)]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        on_gpu = any(one.device.type == "cuda" for one in given)
        if name in COPIES and on_gpu and isinstance(result, Tensor) and result.device.type == "cpu":
            self.to_cpu.append(name)
        if on_gpu and name.startswith(PRODUCTS):
            self.types[self.phase] |= {one.dtype for one in given if one.is_floating_point() and one.ndim > 1}
        return result


@contextmanager
def fake_gpu(monkeypatch) -> Iterator[Calls]:
    """Yield the record of operators; inside, tensors are made on a GPU that is not there, and autocast takes it for one with bf16."""
    # PyTorch now knows that there is no driver; asking it later, with a GPU pretended, would end the process
    with FakeTensorMode():
        torch.empty(2, 2, device="cuda") @ torch.empty(2, 2, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **options: True)
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch._C._cuda_getDeviceCount", lambda: 1, raising=False)
    calls, before = Calls(), torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # attention is taken apart here, with products in float32; on a GPU it is one kernel
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=False), calls:
            yield calls
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def moved(module: nn.Module) -> nn.Module:
    """Replace parameters and buffers by ones without values on the GPU; within `fake_gpu`."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(empty(value), requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = empty(value)
    return module


def empty(value: Tensor) -> Tensor:
    """Return a tensor of the same shape and type on the GPU."""
    return torch.empty(value.shape, dtype=value.dtype, device="cuda")
