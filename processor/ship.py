"""The earlier name of the room `vitreid.deploy`; existing imports stay valid."""

from __future__ import annotations

from importlib import import_module


def __getattr__(name: str) -> object:
    """Look the name up in `deploy`, which lies above this room and is imported only here, when asked for."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("...deploy", __name__), name)
