"""When two names mean one class."""

from __future__ import annotations

PERSON = ("person", "people", "pedestrian", "human")  # names of the one class that this project is about


def same_class(wanted: str, name: str) -> bool:
    """Return whether a class's name is the wanted one; case does not matter.

    >>> same_class("person", "Pedestrian"), same_class("car", "Car"), same_class("car", "cart")
    (True, True, False)
    """
    wanted, name = wanted.strip().lower(), name.strip().lower()
    return wanted == name or (wanted in PERSON and name in PERSON)
