"""The gallery items of a query: relevant, junk or wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..common.errors import UserError
from .input_checks import Labels, as_labels

# protocol -> (query camera, cameras of the gallery items with the query's pid) -> True for those that are junk, i.e. ignored.
PROTOCOLS: dict[str, Callable[[int, np.ndarray], np.ndarray]] = {
    "same-camera": lambda camid, camids: camids == camid,  # Market-1501, DukeMTMC-reID, MSMT17, VeRi-776
    "none": lambda camid, camids: np.zeros(len(camids), bool),
}
LabelArrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def as_label_arrays(
    q_pids: Labels, g_pids: Labels, q_camids: Labels, g_camids: Labels, num_queries: int, num_gallery: int
) -> LabelArrays:
    """Return q_pids (Q,), g_pids (G,), q_camids (Q,), g_camids (G,) as int64 arrays; errors as `as_labels`."""
    return (
        as_labels("q_pids", q_pids, num_queries, "query"),
        as_labels("g_pids", g_pids, num_gallery, "gallery"),
        as_labels("q_camids", q_camids, num_queries, "query"),
        as_labels("g_camids", g_camids, num_gallery, "gallery"),
    )


class Matches:
    """The relevant and the junk gallery items of each query.

    Args:
        q_pids, q_camids: (Q,) labels of the queries.
        g_pids, g_camids: (G,) labels of the gallery.
        protocol: the rule for junk, a name in PROTOCOLS.

    Raises:
        ValueError: the protocol is unknown.
    """

    def __init__(
        self, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray, protocol: str
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UserError(f"protocol: unknown value {protocol!r}; choose from {', '.join(sorted(PROTOCOLS))}")
        self.is_junk = PROTOCOLS[protocol]
        self.q_camids, self.g_camids = q_camids, g_camids
        self.by_pid = np.argsort(g_pids, kind="stable")
        sorted_pids = g_pids[self.by_pid]
        self.starts = np.searchsorted(sorted_pids, q_pids, "left")
        self.stops = np.searchsorted(sorted_pids, q_pids, "right")

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the gallery indices of the relevant and of the junk items of a query, both ascending."""
        own = self.by_pid[self.starts[query] : self.stops[query]]
        junk = self.is_junk(self.q_camids[query], self.g_camids[own])
        return own[~junk], own[junk]

    def is_valid(self) -> np.ndarray:
        """Return True for each of the queries (Q,) with a relevant item."""
        return np.array([len(self.of(query)[0]) > 0 for query in range(len(self.starts))], bool)
