"""Choice of an entry of a room's dict (`LOSSES`, `OPTIMIZERS` …) by the name in an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .errors import UserError

Maker = TypeVar("Maker")


def choose(key: str, name: str, registry: Mapping[str, Maker]) -> Maker:
    """Return `registry[name]`.

    Args:
        key: option that holds the name, for the message.
    Raises:
        UserError: no such name; lists the names accepted.
    """
    if name not in registry:
        raise UserError(f"{key}: unknown value {name!r}; choose from {', '.join(sorted(registry))}")
    return registry[name]
