"""How much memory can still be used: the machine's, and what its groups of processes (containers, batch jobs) are allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = "/sys/fs/cgroup"
_FILES = {  # of a group: what it uses, what it may use, and what of its files in memory can be dropped
    "v1": ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    "v2": ("memory.current", "memory.max", "inactive_file"),
}


def available_memory() -> int:
    """Return the bytes that can still be used: the machine's, or what a container or batch job may take if that is less.

    Where the system does not say, half of the memory is returned, 0 if that is not known either.
    """
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        machine = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _total_memory() // 2
    return max(0, min([machine, *left_in_groups(_own_groups(), Path(GROUPS))]))


def left_in_groups(text: str, root: Path) -> Iterator[int]:
    """Yield what each group above this process may still use, where it has a limit.

    Args:
        text: /proc/self/cgroup, a line `number:controllers:path` per hierarchy; version 2 has no controllers.
        root: where the groups are mounted. In a container the path may be the one outside; its own group is then at the root.
    """
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, mount = ("v1", root / "memory") if controllers else ("v2", root)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            if (left := _left_in(mount / group, version)) is not None:
                yield left


def _left_in(group: Path, version: str) -> int | None:
    used, limit, droppable = _FILES[version]
    try:
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        in_use = int((group / used).read_text()) - int(rows.get(droppable, 0))
        return int((group / limit).read_text()) - in_use
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None


def _own_groups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def _total_memory() -> int:
    """Return the machine's memory in bytes; 0 = unknown, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
