"""Search a gallery: filters, exact or FAISS neighbours, re-ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from .exact_index import LARGEST, ExactIndex, Hits
from .faiss_index import INDEXES, FaissIndex
from .filter_hints import warn_of_absent
from .filters import Where
from .search_result import SearchResult, limit_of

if TYPE_CHECKING:
    from ..storage.gallery import Gallery

FILTERED_GROUPS = 32  # row groups of the records, half a million rows, that a filter looks at at once
POOL = 100  # neighbours that are re-ranked, at least
RERANK = {"k1": 20, "k2": 6, "lam": 0.3}  # Zhong et al., CVPR 2017
_engines: WeakKeyDictionary[Any, Engine] = WeakKeyDictionary()


class Engine:
    """What is prepared once for the searches of some embeddings.

    Args:
        embeddings: (N, D) rows as stored.
        info: of the gallery.
    """

    def __init__(self, embeddings: np.ndarray, info: Any) -> None:
        self.embeddings = embeddings
        self.exact = ExactIndex(embeddings, info.metric, info.scale)
        self.looked_for: set[tuple[str, str]] = set()  # (column, value) of filters; see `warn_of_absent`
        self._built: dict[str, FaissIndex] = {}

    def index(self, name: str | None) -> ExactIndex | FaissIndex:
        """Return the exact index, or the one called `name`, built when first asked for.

        Raises:
            ValueError: the name is unknown.
            ImportError: FAISS is not installed.
        """
        if name in (None, "exact"):
            return self.exact
        if name not in INDEXES:
            raise UserError(f"index: unknown index {name!r}; choose from exact, {', '.join(INDEXES)}")
        if name not in self._built:
            self._built[str(name)] = FaissIndex(self.exact, str(name))
        return self._built[str(name)]


def engine_of(gallery: Gallery) -> Engine:
    """Return the gallery's engine; a new one if its embeddings have changed."""
    engine = _engines.get(gallery)
    if engine is None or engine.embeddings is not gallery.embeddings:
        engine = _engines[gallery] = Engine(gallery.embeddings, gallery.info)
    return engine


def search(
    gallery: Gallery,
    queries: np.ndarray,
    topk: int = 20,
    where: Any = None,
    *,
    rerank: bool | Mapping[str, Any] = False,
    exclude_same_camera: str | Sequence[str | None] | None = None,
    index: str | None = None,
) -> list[SearchResult]:
    """Return the live rows closest to each query; equal distances are in gallery order.

    Args:
        queries: (Q, D) embeddings by the gallery's model.
        topk: results per query, 1 or more; there are fewer if fewer rows pass the filters.
        where: conditions as `Where.of` takes them, e.g. ["camera!=c1", "time>=2026-01-31T08:00"].
        rerank: order the nearest (`topk`, but at least POOL) by k-reciprocal re-ranking; or its k1, k2 and lam, if not RERANK.
        exclude_same_camera: the queries' camera, or one per query (None = not known): rows of that camera are left out.
        index: None or "exact"; or a FAISS index, a name in `vitreid.gallery.search.faiss_index.INDEXES`.
    Raises:
        ValueError: an argument is none of those above; says what is.
        ImportError: FAISS is asked for and not installed.
    """
    queries = check_queries(queries, gallery.info.dimension, topk)
    options = rerank_options(rerank)
    engine, keep = engine_of(gallery), passing(gallery, where)
    limit, found_by = limit_of(gallery.info), engine.index(index)
    pool = topk if options is None else max(topk, POOL)
    results: list[SearchResult | None] = [None] * len(queries)
    for members, camera in by_camera(exclude_same_camera, len(queries)):
        mask = keep if camera is None else other_cameras(gallery, camera, keep)
        for member, hits in zip(members, found_by.search(queries[members], pool, mask), strict=True):
            scores = None
            if options is not None:
                vectors = engine.exact.decoded(hits.positions)
                hits, scores = reranked(queries[member], vectors, hits, topk, gallery.info.metric, options)
            results[member] = as_result(gallery, hits, limit, scores)
    return [result for result in results if result is not None]


def check_queries(queries: np.ndarray, dimension: int, topk: int) -> np.ndarray:
    """Return the queries (Q, D) as float32; raise ValueError if they, or topk, cannot be used."""
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(f"queries: expected (n, {dimension}), the gallery's dimension, got shape {queries.shape}")
    if not np.isfinite(queries).all():
        raise UserError("queries: an embedding holds NaN or infinite values")
    if (largest := np.abs(queries).max(initial=0)) > LARGEST:
        raise UserError(
            f"queries: an embedding holds the value {largest:g}, accepted are values up to {LARGEST:g}; "
            "search with what the gallery's model returns, or scale it to unit length"
        )
    if isinstance(topk, bool) or not isinstance(topk, int | np.integer) or topk < 1:
        raise UserError(f"topk: 1 or more results, got {topk!r}")
    return queries


def rerank_options(rerank: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return k1, k2 and lam, or None if nothing is re-ranked."""
    if isinstance(rerank, Mapping):
        if unknown := sorted(set(rerank) - set(RERANK)):
            raise UserError(f"rerank: unknown {', '.join(unknown)}; choose from {', '.join(RERANK)}")
        return {**RERANK, **rerank}
    return dict(RERANK) if rerank else None


def passing(gallery: Gallery, where: Any) -> np.ndarray | None:
    """Return (N,) bool, the live rows that fulfil `where`; None if all rows do."""
    conditions = Where.of(where)
    keep = None if len(gallery) == len(gallery.embeddings) else gallery.is_live
    if not conditions.conditions:
        return keep
    conditions = conditions.typed(gallery.schema)
    mask = _mask(gallery, conditions.columns, conditions.typed_mask)
    warn_of_absent(gallery, conditions, keep, engine_of(gallery).looked_for)
    return mask if keep is None else mask & keep


def other_cameras(gallery: Gallery, camera: str, keep: np.ndarray | None) -> np.ndarray:
    """Return (N,) bool, the rows of `keep` (None = all) that are not known to be of that camera."""
    others = _mask(gallery, ["camera"], lambda records: ~_is_of(camera, records))
    return others if keep is None else others & keep


def _is_of(camera: str, records: pa.Table) -> np.ndarray:
    return pc.fill_null(pc.equal(records["camera"], pa.scalar(camera)), False).to_numpy()


def _mask(gallery: Gallery, columns: Sequence[str], of: Callable[[pa.Table], np.ndarray]) -> np.ndarray:
    """Return (N,) bool, what `of` says of the records, of which only a part is in memory at a time."""
    return np.concatenate([of(records) for records in gallery.batches(columns, FILTERED_GROUPS)])


def by_camera(cameras: str | Sequence[str | None] | None, count: int) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield (numbers of the queries, their camera), a camera at a time.

    Raises:
        ValueError: not a camera, nor one per query.
    """
    names = [cameras] * count if cameras is None or isinstance(cameras, str) else cameras
    if (
        isinstance(names, bool)
        or len(names) != count
        or not all(name is None or isinstance(name, str) for name in names)
    ):
        raise UserError(
            f"exclude_same_camera: give the camera of the queries, or {count} of them (None = not known), got {cameras!r}"
        )
    for name in dict.fromkeys(names):
        yield np.array([number for number, other in enumerate(names) if other == name]), name


def reranked(
    query: np.ndarray, vectors: np.ndarray, hits: Hits, topk: int, metric: str, options: Mapping[str, Any]
) -> tuple[Hits, np.ndarray]:
    """Return the best `topk` of the hits (k,), and their scores, by what query (D,) and vectors (k, D) share.

    The hits returned know the distance of the nearest, which may not be among them.
    """
    if len(vectors) < 2:
        return hits, hits.distances
    from ...evaluation import k_reciprocal  # loads torch, which plain searches do without

    if metric == "cosine":
        query, vectors = (
            rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30) for rows in (query, vectors)
        )
    k1, k2 = (min(options[name], len(vectors)) for name in ("k1", "k2"))
    scores = k_reciprocal(query[None], vectors, k1=k1, k2=k2, lam=options["lam"])[0].numpy()
    order = np.lexsort((hits.distances, scores))[:topk]
    return Hits(hits.positions[order], hits.distances[order], float(hits.distances.min())), scores[order]


def as_result(gallery: Gallery, hits: Hits, limit: float | None, scores: np.ndarray | None) -> SearchResult:
    """Return the hits with their ids, and with records that are read when asked for."""
    ids = gallery.ids[hits.positions]
    return SearchResult(ids, hits.distances, limit, scores, lambda: gallery.rows_at(hits.positions), hits.nearest)
