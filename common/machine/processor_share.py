"""How many threads a command takes unless asked, so that a busy machine stays usable."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .control_groups import GROUPS, groups_above, own_groups

INTERVAL = 0.1  # seconds over which the load is measured
TOLERATED = 0.25  # of a processor: less load than this takes no thread away
STAT = Path("/proc/stat")


class Share(NamedTuple):
    """What this process may use.

    Args:
        cores: processors that it may run on.
        quota: processors' worth of time that its control groups allow; infinite = no limit.
        busy: processors' worth of time that other programs use.
    """

    cores: int
    quota: float = math.inf
    busy: float = 0.0

    @property
    def threads(self) -> int:
        """The number of threads, 1 or more: the processors that others leave free, but no more than the quota.

        Threads of a product wait for each other: one that shares its processor with another program slows them all.

        >>> Share(8).threads, Share(8, quota=2.5).threads, Share(8, busy=5.1).threads, Share(2, busy=2.0).threads
        (8, 2, 3, 1)
        """
        free = math.floor(self.cores - self.busy + TOLERATED)
        return max(1, min(free, self.cores, int(min(self.quota, self.cores))))

    def __str__(self) -> str:
        limit = "" if self.quota == math.inf else f", {self.quota:g} allowed"
        load = f", {self.busy:.1f} busy with other programs" if self.busy >= TOLERATED else ""
        return f"{self.threads} of {self.cores} processors{limit}{load}"


def measured_share(load: bool = True) -> Share:
    """Return the share of this process, now.

    Args:
        load: measure what other programs use; False = processors and quota only, which do not change from run to run.
    """
    cores = usable_cores()
    return Share(len(cores), cpu_quota(own_groups(), GROUPS), busy_cores(cores) if load else 0.0)


def usable_cores() -> set[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def cpu_quota(text: str, root: Path) -> float:
    """Return the least number of processors that a control group above this process allows; infinite without a limit."""
    return min((_quota(version, group) for version, group in groups_above(text, root, "cpu")), default=math.inf)


def _quota(version: str, group: Path) -> float:
    try:
        if version == "v1":
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        else:
            quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return math.inf


def busy_cores(cores: Iterable[int]) -> float:
    """Return how many of these processors other programs kept busy during `INTERVAL`, in which this one sleeps."""
    try:
        before = ticks(STAT.read_text(), cores)
        time.sleep(INTERVAL)
        after = ticks(STAT.read_text(), cores)
    except (OSError, ValueError):  # not Linux
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    elapsed = [(now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=True)]
    return sum(busy / total for busy, total in elapsed if total > 0)


def ticks(text: str, cores: Iterable[int]) -> list[tuple[int, int]]:
    """Return (busy, all) ticks of each processor out of /proc/stat: waiting for a disk is not busy."""
    rows = {fields[0]: [int(value) for value in fields[1:9]] for fields in map(str.split, text.splitlines()) if fields}
    found = [rows[f"cpu{core}"] for core in sorted(cores) if f"cpu{core}" in rows]
    return [(sum(row) - row[3] - row[4], sum(row)) for row in found]
