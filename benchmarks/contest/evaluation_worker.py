"""One measurement: `python benchmarks/contest/evaluation_worker.py JOB` reads the arrays, warms up, runs once and prints one JSON line."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.common.isolated_process import reply
from vitreid.benchmarks.common.measurement import timed
from vitreid.benchmarks.common.peak_memory import peaks, start_memory, wait
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


def measure(job: EvaluationJob) -> dict[str, float | None]:
    """Warm up on a small problem, then time the job's contestant once; return seconds, memory above the inputs and mAP."""
    contestant = CONTESTANTS[job.task][job.contestant]
    checkout = Checkout(Path(job.checkout), Path(job.compiled) if job.compiled else None) if job.checkout else None
    contestant.run(small_problem(job.device), checkout)
    arrays, found = read_problem(Path(job.folder), job.gallery, job.device), []
    gc.collect()
    before = start_memory(job.device)
    seconds, _ = timed(lambda: found.append(contestant.run(arrays, checkout)), partial(wait, job.device))
    return {"seconds": seconds, **peaks(before, job.device), "mAP": None if found[0] is None else float(found[0])}


def limit_memory(extra: int | None) -> None:
    """Make allocations fail once `extra` bytes more than now are in use, before the machine runs out of memory."""
    held = status_bytes("VmSize")
    if extra is not None and held is not None:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (held + extra, resource.RLIM_INFINITY))


def measure_within_limit(job: EvaluationJob) -> dict[str, float | None]:
    """Limit this process's memory, then measure."""
    limit_memory(job.memory)
    return measure(job)


if __name__ == "__main__":
    sys.exit(reply(EvaluationJob, measure_within_limit))
