"""The gallery items of a query: relevant, junk or wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..common.errors import UserError
from ..labels.protocol import CAMERA, FILE, Protocol, find_protocol
from .input_checks import Labels, as_label_pair

LabelArrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


Files = tuple[np.ndarray, np.ndarray]


def as_label_arrays(
    q_pids: Labels, g_pids: Labels, q_camids: Labels, g_camids: Labels, num_queries: int, num_gallery: int
) -> LabelArrays:
    """Return q_pids (Q,), g_pids (G,), q_camids (Q,), g_camids (G,) as int64 arrays; names are numbered; errors as `as_labels`."""
    sizes = num_queries, num_gallery
    return (*as_label_pair("pids", q_pids, g_pids, *sizes), *as_label_pair("camids", q_camids, g_camids, *sizes))


def as_files(q_files: Labels | None, g_files: Labels | None, num_queries: int, num_gallery: int) -> Files | None:
    """Return q_files (Q,) and g_files (G,) as int64 arrays, None if they are not known; errors as `as_labels`."""
    if q_files is None or g_files is None:
        if q_files is not g_files:
            raise UserError("q_files and g_files: give both, or none of them")
        return None
    return as_label_pair("files", q_files, g_files, num_queries, num_gallery)


Extra = Mapping[str, tuple[Labels, Labels]]  # label -> its values for the queries (Q,) and for the gallery (G,)


def as_extra(extra: Extra, num_queries: int, num_gallery: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return further labels (Q,) and (G,) by name as int64 arrays; errors as `as_labels`."""
    return {name: as_label_pair(name, *pair, num_queries, num_gallery) for name, pair in extra.items()}


class Matches:
    """The relevant and the junk gallery items of each query.

    Args:
        q_pids, q_camids: (Q,) labels of the queries.
        g_pids, g_camids: (G,) labels of the gallery.
        protocol: the rule for junk, or its name in PROTOCOLS.
        files: (Q,) and (G,) contents of the image files: equal labels are equal files; None = not known.
        extra: (Q,) and (G,) further labels that the protocol compares, by name.

    Raises:
        ValueError: the protocol is unknown, or compares a label that is not given.
    """

    def __init__(
        self,
        q_pids: np.ndarray,
        g_pids: np.ndarray,
        q_camids: np.ndarray,
        g_camids: np.ndarray,
        protocol: str | Protocol,
        files: Files | None = None,
        extra: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        self.protocol = find_protocol(protocol)
        known = {CAMERA: (q_camids, g_camids), **({FILE: files} if files else {}), **(extra or {})}
        if missing := [name for name in self.protocol.labels if name not in known and name != FILE]:
            raise UserError(
                f"extra: the protocol {self.protocol.name} compares {' and '.join(missing)}; give their labels, e.g. "
                f"extra={{{missing[0]!r}: (of the queries, of the gallery)}}"
            )
        self.q_labels, self.g_labels = ({name: pair[side] for name, pair in known.items()} for side in (0, 1))
        self.by_pid = np.argsort(g_pids, kind="stable")
        sorted_pids = g_pids[self.by_pid]
        self.starts = np.searchsorted(sorted_pids, q_pids, "left")
        self.stops = np.searchsorted(sorted_pids, q_pids, "right")

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the gallery indices of the relevant items and of those that do not count for a query, both ascending."""
        own = self.by_pid[self.starts[query] : self.stops[query]]
        asked = {name: labels[query] for name, labels in self.q_labels.items()}
        junk = self.protocol.is_junk(asked, {name: labels[own] for name, labels in self.g_labels.items()})
        if self.protocol.hidden:
            hidden = np.flatnonzero(self.protocol.is_hidden(asked, self.g_labels))
            return own[~junk], np.union1d(own[junk], hidden)
        return own[~junk], own[junk]

    def is_valid(self) -> np.ndarray:
        """Return True for each of the queries (Q,) with a relevant item."""
        return np.array([len(self.of(query)[0]) > 0 for query in range(len(self.starts))], bool)
