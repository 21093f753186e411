"""Names of cameras and views: one rule for how a given name finds the name that a model or a gallery knows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

logger = logging.getLogger(__name__)
SEPARATOR = "/"  # between the data set and its camera: market1501/c1


def fitting(name: str, known: Sequence[str]) -> list[int]:
    """Return the positions of the names that `name` may mean: itself, else those that end in it after their data set.

    >>> known = ["market1501/c1", "market1501/c2", "duke/c2"]
    >>> fitting("duke/c2", known), fitting("c1", known), fitting("c2", known), fitting("msmt17/c1", known)
    ([2], [0], [1, 2], [])
    """
    whole = [row for row, other in enumerate(known) if other == name]
    return whole or [row for row, other in enumerate(known) if other.rsplit(SEPARATOR, 1)[-1] == name]


def find_rows(names: Iterable[str | None], known: Sequence[str]) -> list[int]:
    """Return the row of each name in a table of known names; -1 = unknown: no name, or several, fit it.

    >>> find_rows(["c1", "c2", None], ["market1501/c1", "market1501/c2", "duke/c2"])
    [0, -1, -1]
    """
    rows: dict[str | None, int] = {None: -1, "": -1}
    found = []
    for name in names:
        if name not in rows:
            places = fitting(str(name), known)
            rows[name] = places[0] if len(places) == 1 else -1
        found.append(rows[name])
    return found


class UnknownNames:
    """Names each unknown camera, or view, of a model once, in a warning.

    Args:
        what: "camera" or "view".
        known: the names that the model has rows for; empty = it has no such table, and nothing is named.
    """

    def __init__(self, what: str, known: Sequence[str]) -> None:
        self.what, self.known = what, known
        self._named: set[str] = set()

    def warn(self, names: Iterable[str | None]) -> None:
        """Log the names that are new and unknown; a missing name is not."""
        if not self.known:
            return
        new = sorted({name for name in names if name} - self._named)
        self._named.update(new)
        if unknown := [name for name, row in zip(new, find_rows(new, self.known)) if row < 0]:
            logger.warning(
                "%s unknown to the model: %s; the images use the fallback row of its side information. It knows %s",
                *(self.what, ", ".join(map(self._shown, unknown)), ", ".join(self.known)),
            )

    def _shown(self, name: str) -> str:
        places = fitting(name, self.known)
        return f"{name} (may be {' or '.join(self.known[place] for place in places)})" if places else name
