"""A gallery: a folder of embeddings and records that other programs can read, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from ...common.locks import WriterLock
from ...common.replace_folder import OWN, clear, recover, replacement
from ..maintenance.projection import Projection
from ..search.query_vectors import as_vectors, check_embedder, check_model
from . import embeddings_file as vectors
from . import records_file as table
from .metadata import FILE as INFO_FILE
from .metadata import GalleryInfo, State

if TYPE_CHECKING:
    from ..search.search_result import SearchResult, Verdict

EXPORTED = ("export.json", "skipped.txt")  # what tools/export.py says of the rows
Embed = Callable[..., np.ndarray]  # images -> (n, D); has a `fingerprint`


class Gallery:
    """Embeddings and records on disk, row by row the same; made by `create` or `open`.

    The folder holds embeddings.npy (N, D), records.parquet and gallery.json, which says how many rows count. It is written
    last: after a crash at any point the gallery is what it was before the step that was interrupted. Removed rows stay
    until `compact`; ids are never given twice. A relative `path` of a record starts at the gallery's folder.
    An object sees the gallery as it was when opened, plus what it wrote itself; `refresh` shows what others have written.
    """

    def __init__(self, path: Path, embedder: Embed | None = None) -> None:
        self.path = path
        self.embedder = embedder
        self.lock = WriterLock(path)
        self._table: pa.Table | None = None
        self._ids: np.ndarray | None = None
        self.reload()
        if embedder is not None:
            check_embedder(self.info, path, embedder)

    @classmethod
    def create(
        cls, path: str | Path, info: GalleryInfo, overwrite: bool = False, projection: Projection | None = None
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            overwrite: replace the gallery that is there; other files in its folder, such as images, stay.
            projection: what embeddings and queries are to go through; see `fit_pca`.
        Raises:
            FileExistsError: something is there, and it is no gallery or is not to be replaced.
            BlockingIOError: another process is writing the gallery that is there.
        """
        path = Path(path).expanduser().resolve()
        recover(path)
        path.mkdir(parents=True, exist_ok=True)
        with WriterLock(path) as lock:
            if _is_replaced(path, overwrite):
                with replacement(path, lock) as folder:
                    _make_empty(folder, info, projection)
                    _forget_export(path)
            else:
                _make_empty(path, info, projection)
        return cls(path)

    @classmethod
    def build(
        cls,
        path: str | Path,
        info: GalleryInfo,
        fill: Callable[[Gallery], object],
        overwrite: bool = False,
        projection: Projection | None = None,
    ) -> Gallery:
        """Make a gallery and fill it; it takes its place, and an earlier gallery goes, once `fill` has returned.

        Args:
            fill: adds the rows to the empty gallery that it is given.
            path, info, overwrite, projection: as for `create`, with the same errors.
        """
        path = Path(path).expanduser().resolve()
        recover(path)
        path.mkdir(parents=True, exist_ok=True)
        with WriterLock(path) as lock:
            _is_replaced(path, overwrite)
            with replacement(path, lock) as folder:
                fill(cls.create(folder, info, projection=projection))
                _forget_export(path)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path, embedder: Embed | None = None) -> Any:
        """Open a gallery; `milvus:…` is one kept by Milvus, with the same methods.

        Args:
            path: the folder, `milvus:FILE.db` or `milvus:http://HOST:PORT`.
            embedder: turns images into embeddings, so that images can be searched; has the gallery's `fingerprint`.
        Raises:
            FileNotFoundError: there is no gallery.
            ValueError: a file is damaged or cut short, or the embedder is of another model.
        """
        if str(path).startswith("milvus:"):
            from ..milvus.milvus_gallery import MilvusGallery

            return MilvusGallery.open(str(path), embedder)
        return cls(Path(path).expanduser().resolve(), embedder)

    def __len__(self) -> int:
        """Return the number of live rows."""
        return self.state.count - len(self.state.removed)

    def __repr__(self) -> str:
        """Say where, how many, and of which model."""
        return f"Gallery({str(self.path)!r}, {len(self)} rows x {self.info.dimension} {self.info.dtype}, {self.info.model})"

    @property
    def info(self) -> GalleryInfo:
        """What the gallery says about itself."""
        return self.state.info

    @property
    def embeddings(self) -> np.ndarray:
        """(count, D) rows as stored, removed ones included; a read-only memory map. `info.decode` makes them float32."""
        return self._embeddings

    @property
    def records(self) -> pa.Table:
        """The records of the (count) rows in the same order; read once and kept. `select` and `rows_at` read less."""
        if self._table is None:
            self._table = self._records.read()
        return self._table

    @property
    def projection(self) -> Projection | None:
        """What embeddings and queries go through, None = nothing."""
        return self._projection

    @property
    def schema(self) -> pa.Schema:
        """Columns of the records and their types."""
        return self._records.schema

    @property
    def columns(self) -> list[str]:
        """Names of the records' columns."""
        return list(self.schema.names)

    @property
    def is_live(self) -> np.ndarray:
        """(count,) bool: False where the row was removed."""
        live = np.ones(self.state.count, bool)
        if self.state.removed:
            live[self.positions(self.state.removed, removed_too=True)] = False
        return live

    @property
    def ids(self) -> np.ndarray:
        """(count,) int64 ids, ascending."""
        if self._ids is None:
            self._ids = np.concatenate([batch["id"].to_numpy() for batch in self._records.batches(["id"])])
        return self._ids

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of the records (count rows) without reading the others.

        Raises:
            ValueError: there is no such column; lists them.
        """
        self._records.check(columns)
        return self._records.read(columns) if self._table is None else self._table.select(list(columns))

    def batches(self, columns: Sequence[str] | None = None, num_groups: int = 1) -> Iterator[pa.Table]:
        """Yield the records (count rows), or some columns, as consecutive tables of some row groups each, one at least."""
        return self._records.batches(columns, num_groups)

    def rows_at(self, positions: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return the records at some positions (0 … count - 1), each as a dictionary."""
        return self._records.take(positions)

    def positions(self, ids: Sequence[int] | np.ndarray, removed_too: bool = False) -> np.ndarray:
        """Return the positions (n,) of the rows with these ids.

        Raises:
            ValueError: an id is not in the gallery, or was removed.
        """
        wanted = np.asarray(ids, np.int64).reshape(-1)
        places = np.minimum(np.searchsorted(self.ids, wanted), max(0, self.state.count - 1))
        is_there = self.ids[places] == wanted if self.state.count else np.zeros(len(wanted), bool)
        if not removed_too and self.state.removed:
            is_there &= ~np.isin(wanted, self.state.removed)
        if not is_there.all():
            raise UserError(f"id {wanted[~is_there][0]} is not in {self.path}, or was removed")
        return places

    def vectors(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the float32 embeddings (n, D) at some positions."""
        return self.info.decode(self.embeddings[np.asarray(positions, np.int64)])

    def rows_of(self, ids: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return the records with these ids, each as a dictionary; errors as for `positions`."""
        return self.rows_at(self.positions(ids))

    def vectors_of(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the float32 embeddings (n, D) of the rows with these ids; errors as for `positions`."""
        return self.vectors(self.positions(ids))

    def image_path(self, path: str) -> Path:
        """Return where the image of a record is."""
        return self.path / path

    def add(self, embeddings: np.ndarray, records: table.Rows, model: str) -> np.ndarray:
        """Append rows; the gallery holds all of them afterwards, or, after a crash, none.

        Each call rewrites records.parquet, so add many rows at a time. Call it inside `with gallery.lock:` to keep other
        writers out between calls.

        Args:
            embeddings: (n, D), or, in a projected gallery, (n, values before the projection).
            records: n dictionaries or a table: `path`, and where known pid, camera, view, time, tracklet; others are kept.
            model: fingerprint of the model that made the embeddings.
        Returns:
            (n,) the ids of the new rows.
        Raises:
            ValueError: another model, a wrong size, NaN or infinite values, or records that do not fit.
            BlockingIOError: another process is writing.
            OSError: the disk is full; the gallery is as it was.
        """
        with self._writing():
            check_model(self.info, self.path, model, "those to be added")
            rows = self._encoded(embeddings)
            ids = np.arange(self.state.next_id, self.state.next_id + len(rows))
            self.append(rows, [table.with_ids(table.as_records(records, len(rows)), ids)])
        return ids

    def append(self, rows: np.ndarray | Iterable[np.ndarray], records: Sequence[pa.Table]) -> None:
        """Write embeddings, then records, then, which commits them, gallery.json; for rows that are known to fit.

        Args:
            rows: (n, D) as stored, or parts of it one after the other, for what does not fit in memory.
            records: as many records, with their ids, which ascend from `state.next_id` on.
        """
        state = self.state
        parts = [rows] if isinstance(rows, np.ndarray) else rows
        with self.lock:
            count, checksum = vectors.append_rows(
                self.path / vectors.FILE, state.count, state.checksum, parts, self.info.dimension, self.info.dtype
            )
            last = max((pc.max(item["id"]).as_py() for item in records if len(item)), default=state.next_id - 1)
            state = replace(state, count=count, checksum=checksum, next_id=last + 1)
            schema = reduce(table.common_schema, (item.schema for item in records), self._records.schema)
            self._write_records(chain(self.batches(), records), schema, state)
            self.commit(state)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other writers out, and see what earlier ones have left."""
        with self.lock:
            clear(self.path)
            self.refresh()
            yield

    def commit(self, state: State) -> None:
        """Make `state` the gallery's; within `with self.lock`."""
        state.write(self.path)
        self.reload()

    def remove(self, ids: Sequence[int] | np.ndarray) -> int:
        """Remove rows by id; they are never found again, and their space is freed by `compact`. Return how many.

        Raises:
            ValueError: an id is not in the gallery; nothing is removed.
        """
        with self._writing():
            gone = np.unique(np.asarray(ids, np.int64))
            self.positions(gone)
            removed = tuple(sorted({*self.state.removed, *gone.tolist()}))
            self.commit(replace(self.state, removed=removed))
        return len(gone)

    def update(self, ids: Sequence[int] | np.ndarray, values: Mapping[str, Any]) -> int:
        """Set columns of some records, e.g. `{"pid": "7"}`; a new column is null elsewhere. Return how many rows.

        Raises:
            ValueError: an id is not in the gallery, `id` or `path` would be lost, or a value does not fit its column.
        """
        if "id" in values or ("path" in values and values["path"] is None):
            raise UserError("update: ids stay as they are, and every record needs a path")
        with self._writing():
            rows = np.zeros(self.state.count, bool)
            rows[self.positions(ids)] = True
            changed = table.changed(self._records.read(), rows, values)
            self._write_records([changed], changed.schema, self.state)
            self.reload()
        return int(rows.sum())

    def set_info(self, **values: Any) -> None:
        """Replace values of `info` that do not change what the rows mean: threshold, preprocess, embed.

        Raises:
            ValueError: another value is named.
        """
        if unknown := sorted(set(values) - {"threshold", "preprocess", "embed"}):
            raise UserError(f"set_info: cannot change {', '.join(unknown)}; choose from embed, preprocess, threshold")
        with self._writing():
            self.commit(self.state.with_info(**values))

    def refresh(self) -> None:
        """Read again what other processes may have written."""
        recover(self.path)
        if State.read(self.path) != self.state or not self._records.is_current():
            self.reload()

    def reload(self) -> None:
        """Open the files that gallery.json speaks of, all of one moment."""
        recover(self.path)
        while not self._try_load():
            pass
        self._table = self._ids = None

    def check_output(self, path: str | Path) -> None:
        """Raise ValueError if what is made of this gallery would be written over it."""
        if Path(path).expanduser().resolve() == self.path:
            raise UserError(f"output: {self.path} is the gallery that is read; choose another folder")

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Return embeddings as the model gives them (n, values before the projection) as (n, D); (n, D) is returned as it is.

        Raises:
            ValueError: they have another size; says which are possible.
        """
        accepted = {self.info.dimension, self._projection.num_inputs if self._projection else self.info.dimension}
        if rows.ndim != 2 or rows.shape[1] not in accepted:
            raise UserError(
                f"embeddings of shape {rows.shape} do not fit {self.path}: expected (n, {' or '.join(map(str, sorted(accepted)))})"
            )
        return rows if self._projection is None or rows.shape[1] == self.info.dimension else self._projection(rows)

    def search(
        self,
        queries: Any,
        topk: int = 20,
        where: Any = None,
        *,
        rerank: bool = False,
        exclude_same_camera: Any = None,
        index: str | None = None,
    ) -> list[SearchResult]:
        """Return the closest live rows of each query; see `vitreid.gallery.search.engine`.

        Args:
            queries: (n, D) or (D,) embeddings; or, if the gallery was opened with an embedder, an image or a list of images.
        """
        from ..search.engine import search

        return search(
            self,
            self.as_vectors(queries),
            topk,
            where,
            rerank=rerank,
            exclude_same_camera=exclude_same_camera,
            index=index,
        )

    def same_person(self, a: Any, b: Any) -> Verdict:
        """Compare two embeddings or images by the gallery's threshold; "unknown" if it has none."""
        from ..search.search_result import compare

        return compare(self.as_vectors(a), self.as_vectors(b), self.info)

    def as_vectors(self, queries: Any) -> np.ndarray:
        """Return queries, embeddings or images, as (n, D) float32."""
        return self.project(as_vectors(queries, self.embedder))

    def _try_load(self) -> bool:
        """Return False if another process committed meanwhile."""
        self.state = State.read(self.path)
        try:
            self._records = table.Records(self.path / table.FILE, self.state.count)
            self._embeddings = self._map()
            self._projection = Projection.load(self.path) if self.info.projection else None
            self._check_pair()
        except (OSError, ValueError):
            if State.read(self.path) == self.state:
                raise
            return False
        return State.read(self.path) == self.state

    def _map(self) -> np.ndarray:
        return vectors.map_rows(self.path / vectors.FILE, self.state.count, self.info.dimension, self.info.dtype)

    def _check_pair(self) -> None:
        if not self._records.belongs_to(self.state.count, self.state.checksum):
            raise UserError(
                f"{self.path / table.FILE} was written for other embeddings than {vectors.FILE}; restore the folder as a whole"
            )

    def _encoded(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (n, D) as stored."""
        rows = self.info.encode(self.project(np.asarray(embeddings)))
        bad = np.flatnonzero(~np.isfinite(rows if rows.dtype.kind == "f" else embeddings).all(1))
        if len(bad):
            raise UserError(
                f"embeddings: row {bad[0]} holds NaN or values that {self.info.dtype} cannot hold ({len(bad)} such rows)"
            )
        return rows

    def _write_records(self, tables: Iterable[pa.Table], schema: pa.Schema, state: State) -> None:
        table.write_records(self.path / table.FILE, tables, schema, state.count, state.checksum)


def _is_replaced(path: Path, overwrite: bool) -> bool:
    """Return False if the folder is empty but for what an interrupted `create` left.

    Raises:
        FileExistsError: what is there is no gallery, or not to be replaced.
    """
    if (path / INFO_FILE).exists():
        if not overwrite:
            raise FileExistsError(f"{path} is a gallery already; open it, choose another folder, or overwrite it")
        return True
    if strange := sorted({item.name for item in path.iterdir()} - OWN):
        raise FileExistsError(f"{path} is no gallery, but not empty either ({strange[0]}); choose another folder")
    return False


def _forget_export(path: Path) -> None:
    """Delete what does not hold for the rows that are about to take the place of those in `path`."""
    for name in EXPORTED:
        (path / name).unlink(missing_ok=True)


def _make_empty(path: Path, info: GalleryInfo, projection: Projection | None) -> None:
    if projection is not None:
        projection.save(path)
        info = replace(info, projection=projection.fingerprint)
    vectors.append_rows(path / vectors.FILE, 0, 0, (), info.dimension, info.dtype)
    table.write_records(path / table.FILE, [], table.CORE, 0, 0)
    State(info).write(path)
