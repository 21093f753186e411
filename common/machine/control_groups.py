"""The control groups above this process: limits of containers and batch jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")


def own_groups() -> str:
    """Return /proc/self/cgroup, a line `number:controllers:path` per hierarchy; "" where there is none."""
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def groups_above(text: str, root: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """Yield version ("v1", "v2") and folder of each control group of a controller above this process.

    Args:
        text: as from `own_groups`; version 2 has no controllers.
        root: mount point of the groups. In a container the path may be the one on the host; its own group is then at the root.
        controller: memory or cpu.
    """
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        version, mount = ("v1", root / controller) if controllers else ("v2", root)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            yield version, mount / group
