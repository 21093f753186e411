"""One measurement: `python benchmarks/contest/evaluation_worker.py JOB` reads the arrays, warms up, runs once and prints one JSON line."""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.contest.contestants import CONTESTANTS
from vitreid.benchmarks.contest.problems import read_problem, small_problem


@dataclass(frozen=True)
class EvaluationJob:
    """One measurement to make, in plain values.

    Args:
        task, contestant: names in CONTESTANTS.
        folder: the problem's arrays.
        gallery: rows of the gallery to use, None = all.
        device: device of the features, "cpu" or "cuda".
        checkout, compiled: folders of the peer and of its compiled part; None = it has none.
        memory: limit in bytes above the memory of the process at its start; None = no limit.
    """

    task: str
    contestant: str
    folder: str
    gallery: int | None = None
    device: str = "cpu"
    checkout: str | None = None
    compiled: str | None = None
    memory: int | None = None


@dataclass(frozen=True)
class EvaluationMeasurement:
    """The figures, or the reason of a `failure`. Memory is counted above the inputs; None = not measured."""

    seconds: float | None = None
    peak_mb: float | None = None
    gpu_mb: float | None = None
    mAP: float | None = None
    failure: str = ""


def measure(job: EvaluationJob) -> EvaluationMeasurement:
    """Warm up on a small problem, then time the job's contestant once."""
    contestant = CONTESTANTS[job.task][job.contestant]
    checkout = Checkout(Path(job.checkout), Path(job.compiled) if job.compiled else None) if job.checkout else None
    contestant.run(small_problem(job.device), checkout)
    arrays = read_problem(Path(job.folder), job.gallery, job.device)
    gc.collect()
    before = start_memory(job.device)
    start = time.perf_counter()
    mAP = contestant.run(arrays, checkout)
    wait(job.device)
    seconds = time.perf_counter() - start
    return EvaluationMeasurement(seconds, *peaks(before, job.device), None if mAP is None else float(mAP))


def wait(device: str) -> None:
    """Wait until the GPU has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def start_memory(device: str) -> tuple[int | None, int]:
    """Reset the peak counters; return the bytes of process and GPU now, None where the system cannot reset its counter."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    on_gpu = torch.cuda.memory_allocated() if device == "cuda" else 0
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from VmRSS
    except OSError:
        return None, on_gpu
    return status_bytes("VmRSS"), on_gpu


def peaks(before: tuple[int | None, int], device: str) -> tuple[float | None, float | None]:
    """Return the megabytes (10^6 bytes) above `before` at the peaks of process and GPU."""
    peak = status_bytes("VmHWM")
    host = None if before[0] is None or peak is None else max(0, peak - before[0]) / 1e6
    return host, (torch.cuda.max_memory_allocated() - before[1]) / 1e6 if device == "cuda" else None


def limit_memory(extra: int | None) -> None:
    """Make allocations fail once `extra` bytes more than now are in use, before the machine runs out of memory."""
    held = status_bytes("VmSize")
    if extra is not None and held is not None:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (held + extra, resource.RLIM_INFINITY))


def main(argv: list[str] | None = None) -> int:
    """Measure the job given as JSON; a failure is a result too."""
    job = EvaluationJob(**json.loads((sys.argv[1:] if argv is None else argv)[0]))
    limit_memory(job.memory)
    return reply(lambda: measure(job), EvaluationMeasurement)


if __name__ == "__main__":
    sys.exit(main())
