"""Search a gallery: query embeddings, filters, exact or FAISS neighbours, re-ranking."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from ..storage.embeddings_file import Rows
from ..storage.gallery_reader import GalleryReader
from ..storage.metadata import GalleryInfo
from ..storage.row_checks import LARGEST, LengthRange, accepted_lengths, reasons
from .exact_index import Change, ExactIndex, Hits
from .faiss_index import INDEXES, FaissIndex
from .filter_hints import warn_of_absent
from .filters import Where
from .known_names import as_known, with_known_names
from .search_result import SearchResult, Verdict, compare, limit_of, probability_of

logger = logging.getLogger(__name__)
FILTERED_GROUPS = 32  # row groups, half a million records, that a filter reads at once
NAMED = 5  # unusable rows named in the log, of each kind
POOL = 100  # least number of neighbours that are re-ranked
RERANK = {"k1": 20, "k2": 6, "lam": 0.3}  # Zhong et al., CVPR 2017
Finder = Callable[[np.ndarray, "str | None"], Iterator[tuple[Hits, Callable[[], np.ndarray]]]]
# (queries (Q, D), their camera to leave out) -> hits of each query, and a function that returns their float32 rows (k, D)
_engines: WeakKeyDictionary[Any, Engine] = WeakKeyDictionary()


class Engine:
    """The indexes of some embeddings, built once for many searches.

    Args:
        embeddings: (N, D) rows as stored, as `GalleryReader.embeddings` gives them.
        info: description of the gallery.
        change: as for `ExactIndex`.
    """

    def __init__(self, embeddings: Rows, info: GalleryInfo, change: Change | None = None) -> None:
        self.embeddings = embeddings
        lengths = accepted_lengths(info) if change is None else LengthRange()  # changed rows have other lengths
        self.exact = ExactIndex(embeddings, info.metric, info.scale, lengths, change)
        self.named: set[int] = set()  # positions of the unusable rows that were named in the log
        self.looked_for: set[tuple[str, str]] = set()  # (column, value) pairs of filters; see `warn_of_absent`
        self._built: dict[str, FaissIndex] = {}

    def index(self, name: str | None) -> ExactIndex | FaissIndex:
        """Return the exact index or the FAISS index `name`, which its first search builds.

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


def engine_of(gallery: GalleryReader) -> Engine:
    """Return the gallery's engine, a new one if the embeddings have changed."""
    engine = _engines.get(gallery)
    if engine is None or engine.embeddings is not gallery.embeddings:
        norm = gallery.camera_norm
        engine = _engines[gallery] = Engine(gallery.embeddings, gallery.info, norm.rows if norm else None)
    return engine


class Searchable(ABC):
    """Search by embeddings or images, for galleries that find the nearest rows of embeddings."""

    embedder: Callable[..., np.ndarray] | None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of live rows."""

    @property
    @abstractmethod
    def info(self) -> GalleryInfo:
        """Origin of the embeddings and how they are compared."""

    def search(
        self,
        queries: Any,
        topk: int = 20,
        where: Any = None,
        *,
        rerank: bool | Mapping[str, Any] = False,
        exclude_same_camera: str | Sequence[str | None] | None = None,
        index: str | None = None,
        cameras: str | Sequence[str | None] | None = None,
    ) -> list[SearchResult]:
        """Return the live rows closest to each query; equal distances are in gallery order.

        Args:
            queries: (Q, D) or (D,) embeddings; or, if the gallery was opened with an embedder, an image or a list of images.
            topk: results per query, 1 or more; fewer are returned if fewer rows pass the filters.
            where: conditions as `Where.of` takes them, e.g. ["camera!=c1", "time>=2026-01-31T08:00"]. In a gallery folder a bare c1
                finds market1501/c1 if it is the only one.
            rerank: order the nearest rows (`topk`, at least POOL) by k-reciprocal re-ranking; a dictionary replaces values of RERANK.
            exclude_same_camera: the queries' camera, or one per query (None = unknown): rows of that camera are left out. In a
                gallery folder a bare c1 finds market1501/c1 if it is the only one.
            index: None or "exact"; or a FAISS index, a name in `vitreid.gallery.search.faiss_index.INDEXES`; in Milvus None,
                or the index that `create` chose.
            cameras: the queries' camera, or one per query, which a gallery normalised by camera needs; None = that of
                `exclude_same_camera`.
        Raises:
            ValueError: an argument has another value; names the accepted ones.
            ImportError: a FAISS index is named and FAISS is not installed.
        """
        vectors = check_queries(self.as_vectors(queries), self.info.dimension, topk)
        excluded = per_query("exclude_same_camera", exclude_same_camera, len(vectors))
        own = excluded if cameras is None else per_query("cameras", cameras, len(vectors))
        vectors = self.normalised(vectors, own)
        options, limit, curve = rerank_options(rerank), limit_of(self.info), probability_of(self.info)
        find = self._finder(topk if options is None else max(topk, POOL), where, index)
        results: list[SearchResult | None] = [None] * len(vectors)
        for members, camera in by_camera(excluded):
            for member, (hits, rows) in zip(members, find(vectors[members], camera), strict=True):
                scores = None
                if options is not None:
                    hits, scores = reranked(vectors[member], rows(), hits, topk, self.info.metric, options)
                result = self._result(hits, limit, scores)
                if curve is not None:
                    result = replace(result, probabilities=curve(hits.distances, curve.prior_in(len(self))))
                results[member] = result
        return [result for result in results if result is not None]

    def same_person(self, a: Any, b: Any, cameras: Sequence[str | None] = (None, None)) -> Verdict:
        """Compare two embeddings or images by the gallery's threshold; "unknown" if it has none.

        Args:
            cameras: of a and of b, which a gallery normalised by camera needs.
        """
        sides = zip((a, b), per_query("cameras", cameras, 2), strict=True)
        left, right = (self.normalised(self.as_vectors(side), [camera]) for side, camera in sides)
        return compare(left, right, self.info)

    def as_vectors(self, queries: Any) -> np.ndarray:
        """Return queries, embeddings or images, as (n, D) float32."""
        return as_vectors(queries, self.embedder)

    def normalised(self, vectors: np.ndarray, cameras: Sequence[str | None]) -> np.ndarray:
        """Return queries (n, D) as they are compared; `cameras` (n,) are theirs."""
        return vectors

    @abstractmethod
    def _finder(self, topk: int, where: Any, index: str | None) -> Finder:
        """Return a function that finds the `topk` nearest rows of queries; arguments as for `search`."""

    @abstractmethod
    def _result(self, hits: Hits, limit: float | None, scores: np.ndarray | None) -> SearchResult:
        """Return hits as the result of a search; their records are read on first use."""


def as_vectors(queries: Any, embedder: Callable[..., np.ndarray] | None) -> np.ndarray:
    """Return queries as a float32 array (n, D); images are embedded.

    Args:
        queries: (n, D) or (D,) floats as array, tensor or lists; else an image or a list of images, as the embedder takes them.
    Raises:
        ValueError: images without an embedder, or no queries.
    """
    rows = _as_floats(queries)
    if rows is not None:
        return rows
    if embedder is None:
        raise UserError(
            f"queries: expected embeddings (n, D) of floats, got {_describe(queries)}; to search by image open the "
            "gallery with an embedder: Gallery.open(path, embedder=Embedder(weights))"
        )
    return np.asarray(embedder(queries if isinstance(queries, list | tuple) else [queries]), np.float32)


def _as_floats(queries: Any) -> np.ndarray | None:
    """Return (n, D) float32, or None if the queries are no embeddings."""
    if hasattr(queries, "detach"):
        queries = queries.detach().cpu().numpy()
    if isinstance(queries, list | tuple):
        if not queries:
            raise UserError("queries: there is none; give at least one embedding or image")
        if not all(
            isinstance(item, float | list | np.ndarray | np.floating) or hasattr(item, "detach") for item in queries
        ):
            return None
        parts = [item.detach().cpu().numpy() if hasattr(item, "detach") else np.asarray(item) for item in queries]
        if any(part.dtype.kind != "f" or part.ndim != parts[0].ndim or part.ndim > 1 for part in parts):
            return None
        if len({part.shape for part in parts}) > 1:
            raise UserError(f"queries: embeddings of different sizes, {sorted({len(part) for part in parts})}")
        queries = np.stack(parts)
    if not isinstance(queries, np.ndarray) or queries.dtype.kind != "f" or queries.ndim not in (1, 2):
        return None
    rows = np.atleast_2d(queries).astype(np.float32)
    if not len(rows):
        raise UserError("queries: there is none; give at least one embedding or image")
    return rows


def _describe(queries: Any) -> str:
    if isinstance(queries, np.ndarray):
        return f"an array of {queries.dtype} {queries.shape}"
    return repr(queries)[:80]


def check_queries(queries: np.ndarray, dimension: int, topk: int) -> np.ndarray:
    """Return the queries (Q, D) as float32.

    Raises:
        ValueError: another shape, NaN, infinite or too large values, or `topk` below 1.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(f"queries: expected (n, {dimension}), the gallery's dimension, got shape {queries.shape}")
    if not np.isfinite(queries).all():
        raise UserError("queries: an embedding holds NaN or infinite values")
    if (largest := np.abs(queries).max(initial=0)) > LARGEST:
        raise UserError(
            f"queries: an embedding holds the value {largest:g}, accepted are values up to {LARGEST:g}; "
            "search with embeddings of the gallery's model, or scale them to unit length"
        )
    if isinstance(topk, bool) or not isinstance(topk, int | np.integer) or topk < 1:
        raise UserError(f"topk: 1 or more results, got {topk!r}")
    return queries


def finder(gallery: GalleryReader, topk: int, where: Any, index: str | None) -> Finder:
    """Return a function that finds the `topk` nearest live rows of a gallery folder; arguments as for `Searchable.search`."""
    engine, keep = engine_of(gallery), passing(gallery, where)
    found_by = engine.index(index)

    def find(queries: np.ndarray, camera: str | None) -> Iterator[tuple[Hits, Callable[[], np.ndarray]]]:
        mask = keep if camera is None else other_cameras(gallery, camera, keep)
        hits_of_queries = found_by.search(queries, topk, mask)
        _name_unusable(gallery, engine)
        for hits in hits_of_queries:
            yield hits, partial(engine.exact.decoded, hits.positions)

    return find


def _name_unusable(gallery: GalleryReader, engine: Engine) -> None:
    """Log, once, the rows that the search has left out because they are no embeddings."""
    found = {position: square for position, square in engine.exact.unusable.items() if position not in engine.named}
    if not found:
        return
    engine.named |= found.keys()
    ids = gallery.ids[np.array(list(found), np.int64)]
    wrong = reasons(np.array(list(found.values())), gallery.info)
    listed = "; ".join(f"{reason}: id {', '.join(map(str, ids[places[:NAMED]]))}" for reason, places in wrong.items())
    logger.warning(
        "%s: %d rows are no embeddings and are left out of searches (%s); `vitreid gallery verify` lists them, remove them or "
        "restore embeddings.npy",
        *(gallery.path, len(found), listed),
    )


def rerank_options(rerank: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return k1, k2 and lam, or None for no re-ranking."""
    if isinstance(rerank, Mapping):
        if unknown := sorted(set(rerank) - set(RERANK)):
            raise UserError(f"rerank: unknown {', '.join(unknown)}; choose from {', '.join(RERANK)}")
        return {**RERANK, **rerank}
    return dict(RERANK) if rerank else None


def passing(gallery: GalleryReader, where: Any) -> np.ndarray | None:
    """Return (N,) bool, the live rows that fulfil `where`; None if all rows do."""
    keep = None if len(gallery) == len(gallery.embeddings) else gallery.is_live
    if where is None or not (conditions := Where.of(where)).conditions:
        return keep
    conditions = with_known_names(gallery, conditions.typed(gallery.schema))
    mask = _mask(gallery, conditions.columns, conditions.typed_mask)
    if conditions.hints:
        warn_of_absent(gallery, conditions, keep, engine_of(gallery).looked_for)
    return mask if keep is None else mask & keep


def other_cameras(gallery: GalleryReader, camera: str, keep: np.ndarray | None) -> np.ndarray:
    """Return (N,) bool, the rows of `keep` (None = all) from another or an unknown camera.

    Args:
        camera: a bare c1 means market1501/c1 if that is the gallery's only camera of the name.
    """
    (camera,) = as_known(gallery, "camera", [camera])

    def is_other(records: pa.Table) -> np.ndarray:
        return pc.fill_null(pc.not_equal(records["camera"], pa.scalar(camera)), True).to_numpy()

    others = _mask(gallery, ["camera"], is_other)
    return others if keep is None else others & keep


def _mask(gallery: GalleryReader, columns: Sequence[str], passes: Callable[[pa.Table], np.ndarray]) -> np.ndarray:
    """Return (N,) bool, the result of `passes` for all records; only a part of them is in memory at a time."""
    return np.concatenate([passes(records) for records in gallery.batches(columns, FILTERED_GROUPS)])


def by_camera(cameras: Sequence[str | None]) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield (indices of the queries, their camera), one camera at a time."""
    for name in dict.fromkeys(cameras):
        yield np.array([number for number, other in enumerate(cameras) if other == name]), name


def per_query(option: str, cameras: str | Sequence[str | None] | None, count: int) -> Sequence[str | None]:
    """Return the camera of each query; raise ValueError, naming the option, if it is neither one camera nor one per query."""
    names = [cameras] * count if cameras is None or isinstance(cameras, str) else cameras
    if isinstance(names, bool) or len(names) != count or not all(isinstance(name, str | None) for name in names):
        raise UserError(
            f"{option}: give the camera of the queries, or {count} of them (None = unknown), got {cameras!r}"
        )
    return names


def reranked(
    query: np.ndarray, vectors: np.ndarray, hits: Hits, topk: int, metric: str, options: Mapping[str, Any]
) -> tuple[Hits, np.ndarray]:
    """Return the best `topk` of the hits (k,) and their scores after k-reciprocal re-ranking.

    Args:
        query, vectors: (D,) and (k, D) embeddings of the query and the hits.
    Returns:
        Hits with the smallest distance of all k as `nearest`, and (topk,) scores.
    """
    if len(vectors) < 2:
        return hits, hits.distances
    from ...evaluation import k_reciprocal  # loads torch: 1.6 s and 780 MB, which only re-ranking needs

    if metric == "cosine":
        query, vectors = (
            rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30) for rows in (query, vectors)
        )
    k1, k2 = (min(options[name], len(vectors)) for name in ("k1", "k2"))
    scores = k_reciprocal(query[None], vectors, k1=k1, k2=k2, lam=options["lam"])[0].numpy()
    order = np.lexsort((hits.distances, scores))[:topk]
    return Hits(hits.positions[order], hits.distances[order], float(hits.distances.min())), scores[order]
