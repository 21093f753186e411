"""FAISS indexes over a gallery: flat (exact), IVF and HNSW (approximate). Their distances are recomputed exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...common.errors import MissingPackageError
from ...common.forked_processes import watch_forks
from .exact_index import ExactIndex, Hits
from .search_result import pair_distances

ADD_ROWS = 2**16  # rows converted and added at once
TRAIN_PER_LIST = 64  # training rows per IVF list
SELECTIVE = 20  # if at most one row in SELECTIVE passes the filters, the exact search is faster and complete
M, EF_BUILD, EF_SEARCH = 32, 80, 128  # HNSW: links per row, candidates while building, while searching
PROBED = 16  # IVF: lists searched per query, out of about sqrt(N)


class FaissIndex:
    """A FAISS index of a gallery's embeddings, kept in memory as float32 (4 N D bytes, HNSW some 8 M N more).

    Args:
        exact: the gallery's rows.
        name: one of INDEXES.

    Raises:
        MissingPackageError: FAISS is not installed; names the extra to install.
    """

    def __init__(self, exact: ExactIndex, name: str) -> None:
        self.exact, self.name, self.faiss = exact, name, import_faiss()
        watch_forks(self)
        count, width = exact.embeddings.shape
        usable = exact.usable()
        self._usable = None if usable.all() else usable
        self.index = INDEXES[name](self.faiss, width, count)
        if not usable.any():
            return  # nothing to train or add; every search is empty
        if not self.index.is_trained:
            places = np.flatnonzero(usable)
            self.index.train(self._vectors(places[drawn_positions(len(places), TRAIN_PER_LIST * self.index.nlist)]))
        for start in range(0, count, ADD_ROWS):
            self.index.add(self._vectors(np.arange(start, min(start + ADD_ROWS, count))))

    def after_fork(self) -> None:
        """Search with one thread in a child of `fork`: the threads of FAISS are missing there, and it would wait for them."""
        self.faiss.omp_set_num_threads(1)

    def _vectors(self, positions: np.ndarray) -> np.ndarray:
        rows = self.exact.decoded(positions)
        if self._usable is not None:
            rows[~self._usable[positions]] = 0  # never found; NaN would spoil the index
        return self._prepared(rows)

    def _prepared(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (n, D) in the metric's order of euclidean distances: scaled to unit length for the cosine."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.exact.metric == "euclidean":
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)

    def search(self, queries: np.ndarray, topk: int, mask: np.ndarray | None = None) -> list[Hits]:
        """Return the `topk` nearest rows of each query (Q, D) within the index's recall, as `ExactIndex.search` does.

        If the index finds too few rows that pass the mask (N,), the query is searched exactly.
        """
        if self._usable is not None:
            mask = self._usable if mask is None else mask & self._usable
        count = len(self.exact.embeddings) if mask is None else int(np.count_nonzero(mask))
        wanted = min(topk, count)
        if not wanted or (mask is not None and SELECTIVE * count <= len(mask)):
            return self.exact.search(queries, topk, mask)
        asked = min(count, wanted + 8)  # some more: float32 may swap near-equal distances
        found = self.index.search(self._prepared(queries), asked, params=self._params(mask))[1]
        return [self._hits(query, row, topk, wanted, mask) for query, row in zip(queries, found, strict=True)]

    def _hits(self, query: np.ndarray, found: np.ndarray, topk: int, wanted: int, mask: np.ndarray | None) -> Hits:
        positions = found[found >= 0].astype(np.int64)
        if len(positions) < wanted:
            return self.exact.search(query[None], topk, mask)[0]
        vectors = self.exact.decoded(positions)
        distances = pair_distances(np.broadcast_to(query, vectors.shape), vectors, self.exact.metric)
        order = np.lexsort((positions, distances))[:topk]
        return Hits(positions[order], distances[order])

    def _params(self, mask: np.ndarray | None) -> Any:
        """Return FAISS's search parameters: the permitted rows and the search effort."""
        options: dict[str, Any] = {} if mask is None else {"sel": self.faiss.IDSelectorBatch(np.flatnonzero(mask))}
        if self.name == "faiss-ivf":
            return self.faiss.SearchParametersIVF(nprobe=PROBED, **options)
        if self.name == "faiss-hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=EF_SEARCH, **options)
        return self.faiss.SearchParameters(**options)


def import_faiss(what: str = "a FAISS index", instead: str = 'index="exact" needs nothing') -> Any:
    """Return the module `faiss`.

    Args:
        what, instead: the use of FAISS and the alternative without it, for the message.
    Raises:
        MissingPackageError: it is not installed; names the extra to install.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingPackageError(f'{what} needs FAISS: pip install "vitreid[faiss]"; {instead}') from error
    return faiss


def drawn_positions(count: int, most: int, seed: int = 0) -> np.ndarray:
    """Return up to `most` of `count` positions, ascending, drawn with `seed`."""
    return (
        np.arange(count) if count <= most else np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    )


def _ivf(faiss: Any, width: int, count: int) -> Any:
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, max(1, int(count**0.5)))
    index.cp.min_points_per_centroid = 1  # a small gallery is no reason for a warning
    return index


def _hnsw(faiss: Any, width: int, count: int) -> Any:
    index = faiss.IndexHNSWFlat(width, M)
    index.hnsw.efConstruction = EF_BUILD
    return index


INDEXES: dict[str, Callable[[Any, int, int], Any]] = {
    "faiss-flat": lambda faiss, width, count: faiss.IndexFlatL2(width),
    "faiss-ivf": _ivf,
    "faiss-hnsw": _hnsw,
}
