"""Available memory: the machine's, limited by the control groups of containers and batch jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .machine.control_groups import GROUPS, groups_above, own_groups

_FILES = {  # files of a control group: memory in use, limit, and the key of droppable page cache in memory.stat
    "v1": ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    "v2": ("memory.current", "memory.max", "inactive_file"),
}


def available_memory() -> int:
    """Return the available bytes: the machine's, or the rest of a container's or batch job's limit if that is less.

    If the system does not report it, return half of the total memory, or 0 if that is unknown too.
    """
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        machine = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _total_memory() // 2
    return max(0, min([machine, *left_in_groups(own_groups(), GROUPS)]))


def left_in_groups(text: str, root: Path) -> Iterator[int]:
    """Yield the bytes left in each control group above this process that has a limit.

    Args:
        text: /proc/self/cgroup, a line `number:controllers:path` per hierarchy; version 2 has no controllers.
        root: mount point of the groups. In a container `path` may be the path on the host; its own group is then at the root.
    """
    for version, group in groups_above(text, root, "memory"):
        if (left := _left_in(group, version)) is not None:
            yield left


def _left_in(group: Path, version: str) -> int | None:
    used, limit, droppable = _FILES[version]
    try:
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        in_use = int((group / used).read_text()) - int(rows.get(droppable, 0))
        return int((group / limit).read_text()) - in_use
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None


def _total_memory() -> int:
    """Return the machine's memory in bytes; 0 = unknown, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
