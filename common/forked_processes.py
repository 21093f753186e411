"""Objects that must be put in order in a child of `fork`, which has their memory but none of the other threads."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """An object that `after_fork` puts in order."""

    def after_fork(self) -> None:
        """Replace what does not work in the child: locks that another thread may hold, connections, pools of threads."""


_watched: WeakSet[Forked] = WeakSet()


def watch_forks(item: Forked) -> None:
    """Call `item.after_fork()` in each later child of `fork`, before any other code runs there, as long as the object lives."""
    _watched.add(item)


def _in_child() -> None:
    for item in list(_watched):
        item.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
