"""A gallery stored in Milvus, a file (Milvus Lite) or a server, with the methods of `Gallery`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...labels.camera_norm import OFF
from ..keeping.suppress_list import REMOVED
from ..search.engine import Finder, Searchable, check_queries
from ..search.exact_index import Hits
from ..search.filters import Condition, Where
from ..search.search_result import SearchResult, pair_distances
from ..storage import records_file
from ..storage.metadata import GalleryInfo
from ..storage.row_ids import Ids, as_ids
from . import milvus_collections
from .absent_values import stored
from .filter_expression import as_expression
from .milvus_collections import INDEXES, METRICS
from .milvus_reader import BATCH, MilvusReader
from .milvus_suppressed import SuppressedKeys, lost_keys
from .writer_entry import WriterEntry

QUERIES = 64  # queries per request
MOST = 16_384  # most results per query that Milvus returns
SPARE = 8  # extra results per query: float32 may swap near-equal distances


class MilvusGallery(MilvusReader, Searchable):
    """Embeddings and records in two Milvus collections: the rows, and one row of metadata that names the first collection.

    A filter or a search returns what the folder gallery returns: exactly, with the index "FLAT"; within its recall with another.
    Unlike in a folder, adding is not atomic: after a crash some of the rows may be present. `with gallery.lock:` around several
    writes keeps other writers out between them.
    """

    def __init__(self, path: str, embedder: Callable[..., np.ndarray] | None = None) -> None:
        self.path, self.embedder = path, embedder
        self.client, self.name = milvus_collections.connect(path)
        self.lock = WriterEntry(self.client, self._about_name, path)
        self._removed = SuppressedKeys(self.client, path)
        try:
            self.refresh()
            if embedder is not None:
                self.info.check_embedder(path, embedder)
        except BaseException:
            self.client.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process connects anew; with its own MILVUS_TOKEN."""
        return type(self), (self.path, self.embedder)

    @classmethod
    def create(cls, path: str, info: GalleryInfo, overwrite: bool = False, index: str = "FLAT") -> MilvusGallery:
        """Make an empty gallery.

        Args:
            path: `milvus:FILE.db` or `milvus:http://HOST:PORT`, then `#NAME` for another name than "gallery".
            overwrite: replace an existing gallery.
            index: one of INDEXES; all but FLAT are approximate, and a Milvus may lack some.
        Raises:
            FileExistsError: a gallery exists and `overwrite` is false, or a collection of another program has a needed name.
            ValueError: the index is unknown, or the embeddings are projected.
        """
        return cls.build(path, info, lambda _: None, overwrite, index)

    @classmethod
    def build(
        cls,
        path: str,
        info: GalleryInfo,
        fill: Callable[[MilvusGallery], object],
        overwrite: bool = False,
        index: str = "FLAT",
    ) -> MilvusGallery:
        """Make a gallery and fill it; it replaces an earlier one, in one step, when `fill` has returned.

        Objects with the earlier one open search its rows until their next `refresh` or write. These rows stay until the
        next replacement or `drop_earlier`.

        Args:
            fill: adds the rows to the empty gallery that is its argument.
            path, info, overwrite, index: as for `create`, with the same errors.
        """
        if index not in INDEXES:
            raise UserError(f"index: unknown index {index!r}; choose from {', '.join(INDEXES)}")
        if info.camera_norm != OFF:
            raise UserError(
                "Milvus galleries are not normalised by camera; set it to none first: vitreid gallery camera-norm"
            )
        if info.projection is not None:
            raise UserError("Milvus galleries keep no projection; import the gallery from before fit_pca")
        client, name = milvus_collections.connect(path, create=True)
        with closing(client):
            live = milvus_collections.live_rows(client, path, name)
            if live and not overwrite:
                raise FileExistsError(f"{path} holds a gallery called {name!r}; give overwrite=True to replace it")
            rows, draft = f"{name}_rows" if live == name else name, f"{name}_draft"
            if client.has_collection(f"{draft}_about"):
                WriterEntry(client, f"{draft}_about", path).check()  # another import may be at work
            milvus_collections.clear(client, path, name, rows)
            try:
                milvus_collections.make_empty(
                    client, rows, f"{draft}_about", replace(info, dtype="float32", scale=None), index
                )
                with closing(cls(f"{path.partition('#')[0]}#{draft}")) as made, made.lock:
                    fill(made)
            except BaseException:
                with suppress(OSError):  # the server may be gone; the next import clears what is left
                    milvus_collections.drop(client, rows, f"{draft}_about")
                raise
            # this commits the new rows
            milvus_collections.write_about(client, f"{name}_about", made.about | {"earlier": live})
            milvus_collections.drop(client, f"{draft}_about")
            return cls(path)

    @classmethod
    def open(cls, path: str, embedder: Callable[..., np.ndarray] | None = None) -> MilvusGallery:
        """Open a gallery; `path` and `embedder` as for `Gallery.open`."""
        return cls(path, embedder)

    def add(self, embeddings: np.ndarray, records: records_file.Rows, model: str) -> np.ndarray:
        """Add rows; arguments, result and errors as `Gallery.add`.

        Raises:
            ValueError: rows with the new ids are there already, of a program without a lock; nothing is added.
        """
        with self.writing():
            self.info.check_model(self.path, model, "those to be added")
            vectors = check_queries(embeddings, self.info.dimension, 1)
            root = Path(self.about["root"])
            rows = records_file.with_found_paths(records_file.as_records(records, len(vectors)), root)
            kept = self._removed.admitted(rows, root)
            ids = np.where(kept, self.about["next_id"] + np.cumsum(kept) - 1, -1)
            self._check_free(ids[kept])
            self.insert(records_file.with_ids(rows.filter(pa.array(kept)), ids[kept]), vectors[kept])
        return ids

    @property
    def suppressed(self) -> pa.Table:
        """Keys of rows that were removed and stay out, with time and reason; fetches all of them."""
        return self._removed.read()

    def set_suppressed(self, entries: pa.Table) -> None:
        """Replace the list of suppressed rows."""
        with self.writing():
            self._removed.write(entries)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out, and read what earlier ones have written; may be nested."""
        with self.lock:
            self.refresh()
            yield

    def _check_free(self, ids: np.ndarray) -> None:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH].tolist()
            if taken := sorted(row["id"] for row in self.client.get(self._rows_name, ids=some, output_fields=["id"])):
                raise UserError(
                    f"{self.path} already has a row {taken[0]}, the id of a new row: another program is "
                    "writing; let one program write at a time, and add these rows again when it is done"
                )

    def insert(self, records: pa.Table, vectors: np.ndarray) -> None:
        """Add n records with ids, and their float32 vectors (n, D)."""
        schema = records_file.common_schema(self.schema, records.schema)
        milvus_collections.check_types(schema)
        last = max(records["id"].to_pylist(), default=-1)
        next_id = max(self.about["next_id"], last + 1)
        self.save(schema=milvus_collections.pack(schema), next_id=next_id)  # before the rows: ids are never reused
        for start in range(0, len(vectors), BATCH):
            rows = [stored(row, self._absent) for row in records.slice(start, BATCH).to_pylist()]
            for row, vector in zip(rows, vectors[start : start + BATCH].tolist(), strict=True):
                row["vector"] = vector
            self.client.insert(self._rows_name, rows)
            self.lock.renew()

    def remove(self, ids: Ids, reason: str | None = REMOVED) -> int:
        """Remove rows by id; they stay out, as `Gallery.remove`. Return how many.

        Raises:
            KeyError: an id is missing; nothing is removed.
        """
        with self.writing():
            gone = np.unique(as_ids(ids)).tolist()
            rows = self._get(gone, ["id", "path"])
            if reason is not None:  # first: after a crash in between, removing again completes it
                self._removed.add(lost_keys(self, rows), reason)
            for start in range(0, len(gone), BATCH):
                self.client.delete(self._rows_name, ids=gone[start : start + BATCH])
        return len(gone)

    def update(self, ids: Ids, values: Mapping[str, Any]) -> int:
        """Set columns of some records; as `Gallery.update`."""
        with self.writing():
            return self._update(ids, values)

    def _update(self, ids: Ids, values: Mapping[str, Any]) -> int:
        rows = self._get(np.unique(as_ids(ids)), ["*"])
        found = pa.Table.from_pylist([{**row, "vector": None} for row in rows], self.schema)
        changed = records_file.changed(found, np.ones(len(rows), bool), values)
        milvus_collections.check_types(changed.schema)
        self.save(schema=milvus_collections.pack(changed.schema))
        new = [
            {**stored(row, self._absent), "vector": old["vector"]}
            for row, old in zip(changed.to_pylist(), rows, strict=True)
        ]
        for start in range(0, len(new), BATCH):
            self.client.upsert(self._rows_name, new[start : start + BATCH])
        return len(rows)

    def set_info(self, **values: Any) -> None:
        """Replace threshold, preprocess or embed of `info`; as `Gallery.set_info`."""
        with self.writing():
            self._info = self.info.with_values(**values)
            self.save(info=self.info.to_dict())

    def refresh(self) -> None:
        """Read the metadata again, which other programs may have changed.

        Raises:
            OSError: the gallery was dropped (FileNotFoundError), or the server does not answer; this object is unchanged.
        """
        about = milvus_collections.about_of(self.client, self._about_name)
        if about is None:
            raise FileNotFoundError(
                f"{self.path}: there is no gallery called {self.name!r}; make one with MilvusGallery.create"
            )
        self.about, self._info = about, GalleryInfo.from_dict(about["info"])

    def drop_earlier(self) -> None:
        """Drop the rows of the gallery that this one replaced; objects that had it open must have refreshed."""
        with self.writing():
            if earlier := self.about.get("earlier"):
                milvus_collections.drop(
                    self.client, earlier
                )  # first: collections not named in `about` are never dropped
                self.save(earlier=None)

    def _finder(self, topk: int, where: Any, index: str | None) -> Finder:
        """As `Searchable`.

        Raises:
            ValueError: `index` is not the one chosen by `create`, or `topk` exceeds the most that Milvus returns.
        """
        if index not in (None, self.about["index"]):
            raise UserError(
                f"index: {self.path} was made with {self.about['index']}; leave index out, or create it anew"
            )
        if topk > MOST:
            raise UserError(f"topk: Milvus returns {MOST} results at most, got {topk}")
        conditions = Where.of(where).typed(self.schema).conditions

        def find(queries: np.ndarray, camera: str | None) -> Iterator[tuple[Hits, Callable[[], np.ndarray]]]:
            own = () if camera is None else (Condition("camera", "!=", (camera,)),)
            return self._nearest(queries, topk, as_expression(Where((*conditions, *own)), self._absent))

        return find

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _nearest(
        self, queries: np.ndarray, topk: int, expression: str
    ) -> Iterator[tuple[Hits, Callable[[], np.ndarray]]]:
        """Yield the neighbours of each query, as ids and exact distances, and a function that returns their vectors."""
        options = {"metric_type": METRICS[self.info.metric], "params": dict(INDEXES[self.about["index"]][1])}
        asked = min(topk + SPARE, MOST)
        for start in range(0, len(queries), QUERIES):
            some = queries[start : start + QUERIES]
            found = self.client.search(
                self._rows_name,
                some.tolist(),
                filter=expression,
                limit=asked,
                output_fields=["vector"],
                search_params=options,
            )
            for query, rows in zip(some, found, strict=True):
                ids = np.array([row["id"] for row in rows], np.int64)
                vectors = np.array([row["entity"]["vector"] for row in rows], np.float32).reshape(-1, queries.shape[1])
                distances = pair_distances(np.broadcast_to(query, vectors.shape), vectors, self.info.metric)
                order = np.lexsort((ids, distances))[:topk]
                yield Hits(ids[order], distances[order]), partial(vectors.__getitem__, order)

    def _result(self, hits: Hits, limit: float | None, scores: np.ndarray | None) -> SearchResult:
        look_up = partial(self.rows_of, hits.positions)
        return SearchResult(hits.positions, hits.distances, limit, scores, look_up, hits.nearest)

    def save(self, **values: Any) -> None:
        """Change some metadata of the gallery."""
        self.about |= values
        self.client.upsert(self._about_name, [milvus_collections.about_row(self.about)])
