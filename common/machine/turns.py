"""Timing of several calls in turns, because the speed of a machine drifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def in_turns(
    calls: Mapping[str, Callable[[], object]], fewest: int, most: int, seconds: float = 0.0, pause: float = 0.0
) -> dict[str, list[float]]:
    """Return the seconds of each call in every round but the first, in which every call comes once.

    Args:
        fewest, most: rounds that count.
        seconds: time of each call in all, within these rounds.
        pause: seconds before each call.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(most + 1):
        for name, call in calls.items():
            time.sleep(pause)
            start = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - start)
        if number >= fewest and min(map(sum, times.values()), default=0.0) >= seconds:
            break
    return times
