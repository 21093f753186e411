"""Errors that a user can mend: their message names the key or file, what was found, what is accepted and the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Maker = TypeVar("Maker")


class UserError(ValueError):
    """A mistake in what the user gave: an option, a file, an argument. The commands print its message without a traceback.

    Any other ValueError is a defect of vitreid or of a library and keeps its traceback.
    """


class MissingPackageError(ModuleNotFoundError):
    """An optional package is not installed; the message has the command that installs it."""


def choose(key: str, name: str, registry: Mapping[str, Maker]) -> Maker:
    """Return the entry of a room's dict (`LOSSES`, `OPTIMIZERS` …).

    Args:
        key: option that holds the name, for the message.
    Raises:
        UserError: no such name; lists the names accepted.
    """
    if not isinstance(name, str) or name not in registry:  # a config of a stranger may hold a list
        raise UserError(f"{key}: unknown value {name!r}; choose from {', '.join(sorted(registry))}")
    return registry[name]
