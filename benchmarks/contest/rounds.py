"""Contestants measured in turn, round after round, each time in a fresh process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitreid.benchmarks.common.checkouts import Checkout
from vitreid.benchmarks.common.isolated_process import ask
from vitreid.benchmarks.contest.contestants import CONTESTANTS, FLOOR, OURS, Contestant
from vitreid.benchmarks.contest.evaluation_worker import EvaluationJob, EvaluationMeasurement
from vitreid.common.memory_limits import available_memory

WORKER = Path(__file__).with_name("evaluation_worker.py")
RESERVE = 0.95  # share of the available memory that a contestant may take
Measure = Callable[[EvaluationJob], EvaluationMeasurement]


@dataclass
class EvaluationRow:
    """One contestant's measurements, or the reason why there are none."""

    contestant: str
    runs: list[EvaluationMeasurement] = field(default_factory=list)
    skipped: str = ""

    def spread(self, name: str = "seconds") -> tuple[float, float, float] | None:
        """Return median, minimum and maximum of a figure, None where it was not measured."""
        values = [value for run in self.runs if (value := getattr(run, name)) is not None]
        return (statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class EvaluationSetting:
    """The settings shared by all measurements of a run.

    Args:
        device: "cpu" or "cuda".
        rounds: measurements per contestant.
        checkouts: peer -> its checkout, for the peers with one.
        not_compiled: peer -> reason why its Cython part is missing.
        measure: runs one job.
        only: the contestants to measure in addition to floor and vitreid; None = all.
    """

    device: str
    rounds: int
    checkouts: dict[str, Checkout]
    not_compiled: dict[str, str]
    measure: Measure
    only: frozenset[str] | None = None


def compare(
    setting: EvaluationSetting, job: EvaluationJob, size: tuple[int, int], names: tuple[str, ...] | None = None
) -> list[EvaluationRow]:
    """Measure all contestants of the job's task (or `names`) in turn, `setting.rounds` times.

    Args:
        job: a job; contestant and checkout are filled in here.
        size: number of queries and of gallery images.
    """
    contestants = CONTESTANTS[job.task]
    rows = [
        EvaluationRow(name)
        for name in names or contestants
        if setting.only is None or name in {FLOOR, OURS, *setting.only}
    ]
    for row in rows:
        row.skipped = reason_to_skip(contestants[row.contestant], setting, num_pairs(job.task, size), sum(size))
    for _ in range(setting.rounds):
        for row in (row for row in rows if not row.skipped):
            run = setting.measure(_job_of(row.contestant, setting, job))
            row.runs += [] if run.failure else [run]
            row.skipped = run.failure
    return rows


def num_pairs(task: str, size: tuple[int, int]) -> int:
    """Return the pairs of a ranking, or of all crops with all crops in re-ranking."""
    return size[0] * size[1] if task == "ranking" else sum(size) ** 2


def reason_to_skip(contestant: Contestant, setting: EvaluationSetting, pairs: int, crops: int) -> str:
    """Return the reason why a contestant cannot run here; empty = it can."""
    if contestant.peer and contestant.peer not in setting.checkouts:
        return f"no checkout given (--{contestant.peer})"
    if contestant.cython and setting.checkouts[contestant.peer].compiled is None:
        return setting.not_compiled.get(contestant.peer, "not compiled")
    if contestant.max_pairs is not None and pairs > contestant.max_pairs:
        return f"left out above {contestant.max_pairs / 1e6:,.0f} million pairs: it would take hours"
    needed, available = contestant.bytes_per_pair * pairs + crops * 768 * 4, available_memory()
    if contestant.bytes_per_pair and available and needed > RESERVE * available:
        return f"would not fit: needs {needed / 2**30:,.0f} GiB, {available / 2**30:,.0f} GiB are available"
    return ""


def _job_of(name: str, setting: EvaluationSetting, job: EvaluationJob) -> EvaluationJob:
    checkout = setting.checkouts.get(CONTESTANTS[job.task][name].peer)
    available = available_memory()
    limit = int(RESERVE * available) if available and setting.device == "cpu" else None
    if checkout is None:
        return replace(job, contestant=name, device=setting.device, memory=limit)
    compiled = str(checkout.compiled) if checkout.compiled else None
    return replace(
        job, contestant=name, device=setting.device, memory=limit, checkout=str(checkout.folder), compiled=compiled
    )


def in_fresh_process(limit: float) -> Measure:
    """Return a function that measures a job in a new process and stops it after `limit` seconds."""
    return lambda job: ask(WORKER, job, limit, EvaluationMeasurement)


def floor_of(rows: list[EvaluationRow]) -> float | None:
    """Return the floor's median in seconds, None where it was not measured."""
    found = next((row.spread() for row in rows if row.contestant == FLOOR), None)
    return found[0] if found else None
