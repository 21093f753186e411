"""What the figures were measured on, and how much memory a process takes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from vitreid.common.errors import UserError
from vitreid.common.memory_limits import available_memory

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd")


def describe_hardware(device: str) -> dict[str, object]:
    """Return processor, cores, instruction sets, memory, threads, versions and, for "cuda", the GPU.

    Raises:
        UserError: there is no GPU.
    """
    import torch  # here, so that a process whose memory is measured can do without

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda, but torch finds no GPU here; choose cpu")
    processor = _fields("/proc/cpuinfo")
    flags = (processor.get("flags") or processor.get("Features") or "").split()
    found: dict[str, object] = {
        "cpu": processor.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gb": _gigabytes(_kilobytes("/proc/meminfo", "MemTotal")),
        "available_gb": _gigabytes(available_memory()),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device,
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return found


def status_bytes(name: str, process: int | str = "self") -> int | None:
    """Return an entry of a process's /proc/…/status in bytes, e.g. VmRSS; None off Linux."""
    return _kilobytes(f"/proc/{process}/status", name)


def _fields(path: str) -> dict[str, str]:
    """Return the `name : value` lines of a file under /proc, the first of each name; nothing where there is no such file."""
    try:
        lines = [line.partition(":") for line in Path(path).read_text().splitlines()]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in reversed(lines)}


def _kilobytes(path: str, name: str) -> int | None:
    value = _fields(path).get(name, "").split()
    return int(value[0]) * 1024 if value else None


def _gigabytes(count: int | None) -> float | None:
    return None if count is None else round(count / 2**30, 1)
