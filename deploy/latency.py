"""Seconds per batch. The calls alternate, round after round, because the speed of a machine drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

PAUSE = 0.05  # seconds before each call: threads of the other runtime spin for a while and would take processor time


class Latency(NamedTuple):
    """Seconds per batch: median, smallest and largest over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{1000 * self.median:.1f} ms ({1000 * self.least:.1f} - {1000 * self.most:.1f})"


def measure(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Latency]:
    """Return the latency of each call over `rounds` rounds, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: Latency(statistics.median(times), min(times), max(times)) for name, times in seconds.items()}
