"""The peak memory of a process and of its GPU, above what they hold at the start."""

from __future__ import annotations

from pathlib import Path

import torch

from vitreid.benchmarks.common.hardware import status_bytes


def wait(device: str) -> None:
    """Wait until the GPU has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def start_memory(device: str) -> tuple[int | None, int]:
    """Reset the peak counters; return the bytes of process and GPU now, None where the system cannot reset its counter."""
    wait(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    on_gpu = torch.cuda.memory_allocated() if device == "cuda" else 0
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from VmRSS
    except OSError:
        return None, on_gpu
    return status_bytes("VmRSS"), on_gpu


def peaks(before: tuple[int | None, int], device: str) -> dict[str, float | None]:
    """Return the megabytes (10^6 bytes) above `before` at the peaks of process and GPU; None = not measured here."""
    peak = status_bytes("VmHWM")
    host = None if before[0] is None or peak is None else max(0, peak - before[0]) / 1e6
    gpu = (torch.cuda.max_memory_allocated() - before[1]) / 1e6 if device == "cuda" else None
    return {"peak_mb": host, "gpu_mb": gpu}
