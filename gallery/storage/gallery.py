"""A gallery: a folder of embeddings and records that other programs can read; it is made, searched and changed here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...common.errors import UserError
from ...common.locks import WriterLock
from ...common.replace_folder import clear, locked_place, recover, replacement
from ...labels.camera_norm import OFF
from ..keeping import suppress_list
from ..keeping.row_keys import are_in
from ..keeping.suppress_list import KEPT_OUT, earlier_list, keys_in
from ..milvus.milvus_gallery import MilvusGallery
from ..search.engine import Finder, Searchable, finder
from ..search.exact_index import Hits
from ..search.search_result import SearchResult
from . import embeddings_file, records_file
from .camera_statistics import CameraSums
from .file_names import CAMERAS, EMBEDDINGS, METADATA, OWN_FILES, RECORDS, replaced_files
from .gallery_reader import GalleryReader
from .metadata import GalleryInfo, State
from .projection import Projection
from .row_checks import check_not_cut
from .row_ids import Ids, as_ids

logger = logging.getLogger(__name__)


Embed = Callable[..., np.ndarray]  # images -> (n, D); has a `fingerprint`


class Gallery(GalleryReader, Searchable):
    """Embeddings and records on disk; made by `create` or `open`.

    A write commits with gallery.json, its last file: after a crash at any point the gallery is as it was before the
    interrupted call. Ids are never reused. An object shows the gallery as it was when opened, plus its own writes;
    `refresh` shows those of other processes.
    """

    def __init__(self, path: Path, embedder: Embed | None = None, rows: str = embeddings_file.MAPPED) -> None:
        super().__init__(path, rows)
        self.embedder = embedder
        self.lock = WriterLock(path)
        if embedder is not None:
            self.info.check_embedder(path, embedder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the folder anew: as it is then, without the lock, and with the embedder."""
        return type(self), (self.path, self.embedder, self.way)

    @classmethod
    def create(
        cls, path: str | Path, info: GalleryInfo, overwrite: bool = False, projection: Projection | None = None
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            overwrite: replace the existing gallery; its list of suppressed rows and files of others in its folder stay.
            projection: projection of all embeddings and queries; see `fit_pca`.
        Raises:
            FileExistsError: the folder holds a gallery and `overwrite` is false, or holds something else.
            BlockingIOError: another process is writing the existing gallery.
        """
        with cls._place(path, overwrite) as (path, lock, is_replaced):
            if is_replaced:
                with replacement(path, lock, replaced_files) as folder:
                    _make_empty(folder, info, projection, earlier_list(path))
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
        """Make a gallery and fill it. It appears at `path`, and replaces an earlier gallery, when `fill` has returned.

        Args:
            fill: adds the rows to the empty gallery that is its argument.
            path, info, overwrite, projection: as for `create`, with the same errors.
        """
        with (
            cls._place(path, overwrite) as (path, lock, is_replaced),
            replacement(path, lock, replaced_files) as folder,
        ):
            _make_empty(folder, info, projection, earlier_list(path) if is_replaced else None)
            made = cls(folder)
            made.home = path
            fill(made)
        return cls(path)

    @staticmethod
    @contextmanager
    def _place(path: str | Path, overwrite: bool) -> Iterator[tuple[Path, WriterLock, bool]]:
        """Lock the folder of a new gallery; yield it, its lock, and whether it holds a gallery to be replaced."""
        path = Path(path).expanduser().resolve()
        with locked_place(path, replaced_files) as lock:
            yield path, lock, _is_replaced(path, overwrite)

    @classmethod
    def open(cls, path: str | Path, embedder: Embed | None = None, rows: str = embeddings_file.MAPPED) -> Any:
        """Open a gallery; `milvus:…` is one stored in Milvus, with the same methods.

        Args:
            path: the folder, `milvus:FILE.db` or `milvus:http://HOST:PORT`.
            embedder: turns images into embeddings, so that images can be searched; has the gallery's `fingerprint`.
            rows: how embeddings are read, "mapped", "kept" or "read", see `open_rows`: another program that cuts their file
                short while a mapped row is read ends this process.
        Raises:
            FileNotFoundError: there is no gallery.
            ValueError: a file is damaged or cut short, or the embedder belongs to another model.
        """
        if str(path).startswith("milvus:"):
            return MilvusGallery.open(str(path), embedder)
        return cls(Path(path).expanduser().resolve(), embedder, rows)

    def __repr__(self) -> str:
        """Return folder, size and model."""
        return f"Gallery({str(self.path)!r}, {len(self)} rows x {self.info.dimension} {self.info.dtype}, {self.info.model})"

    def as_vectors(self, queries: Any) -> np.ndarray:
        """Return queries, embeddings or images, as (n, D) float32, projected if the gallery is."""
        return self.project(super().as_vectors(queries))

    def normalised(self, vectors: np.ndarray, cameras: Sequence[str | None]) -> np.ndarray:
        """Return queries (n, D) normalised by their cameras, if the gallery is; errors as `CameraNorm.queries`."""
        return vectors if self.camera_norm is None else self.camera_norm.queries(vectors, cameras)

    def _finder(self, topk: int, where: Any, index: str | None) -> Finder:
        return finder(self, topk, where, index)

    def _result(self, hits: Hits, limit: float | None, scores: np.ndarray | None) -> SearchResult:
        look_up = partial(self.rows_at, hits.positions)
        return SearchResult(self.ids[hits.positions], hits.distances, limit, scores, look_up, hits.nearest)

    def add(self, embeddings: np.ndarray, records: records_file.Rows, model: str) -> np.ndarray:
        """Append rows: all of them or, after a crash, none.

        Each call rewrites records.parquet, so add many rows at a time. `with gallery.lock:` around several calls keeps other
        writers out between them.

        Args:
            embeddings: (n, D), or, in a projected gallery, (n, dimension before the projection).
            records: n dictionaries or a table: `path`, and if known pid, camera, view, time, tracklet; further columns are kept. A
                relative path starts at the gallery's folder, or, if there is no such file, at the working folder: then the absolute
                path is stored, which leads to the file from anywhere.
            model: fingerprint of the model that made the embeddings.
        Returns:
            (n,) the ids of the new rows; -1 for rows that were removed earlier, which stay out (see `allow`).
        Raises:
            ValueError: another model, a wrong shape, NaN or infinite values, or records that do not fit.
            BlockingIOError: another process is writing.
            OSError: the disk is full; the gallery is unchanged.
        """
        with self.writing():
            self.info.check_model(self.path, model, "those to be added")
            rows = self.encoded(embeddings)
            found = records_file.with_found_paths(records_file.as_records(records, len(rows)), self.path)
            kept = self.admitted(found)
            if not kept.all():
                logger.warning(KEPT_OUT, self.home, int((~kept).sum()), len(kept))
            ids = np.where(kept, self.state.next_id + np.cumsum(kept) - 1, -1)
            table = records_file.with_ids(found.filter(pa.array(kept)), ids[kept])
            self.check_cameras([table])
            self.append(rows[kept], [table])
        return ids

    def check_cameras(self, records: Iterable[pa.Table]) -> None:
        """Raise UserError if rows are compared normalised by camera and a camera of new records would have too few."""
        if self.info.camera_norm == OFF:
            return
        sums = self.camera_sums()
        for table in records:
            codes = sums.codes(table["camera"], grow=True)
            sums.counts += np.bincount(codes, minlength=len(sums.counts))
        sums.check()

    def append(self, rows: np.ndarray | Iterable[np.ndarray], records: Sequence[pa.Table], replaced: Ids = ()) -> None:
        """Append checked rows: write embeddings, then records, then gallery.json, which commits them.

        Args:
            rows: (n, D) as stored, or consecutive parts of it, if it does not fit in memory.
            records: n records with ids, ascending from `state.next_id`.
            replaced: ids of rows that are removed with the same commit, since the new ones take their place.
        """
        parts: Iterable[np.ndarray] = [rows] if isinstance(rows, np.ndarray) else rows
        sums = self.camera_sums() if self.info.camera_norm != OFF else None
        if sums is not None:
            parts = self._counted(parts, records, sums)
        with self.lock:
            try:
                state = self._append(parts, records)
                if len(replaced):
                    state = self._without(state, as_ids(replaced), sums)
                if sums is not None:
                    sums.save(self.path, state)
                state.write(self.path)
            except Exception:
                self._take_back()
                raise
            self.reload()

    def _append(self, parts: Iterable[np.ndarray], records: Sequence[pa.Table]) -> State:
        """Write embeddings and records; return the state that commits them."""
        state, info = self.state, self.info
        before = embeddings_file.Written(state.count, state.checksum, state.last_row)
        written = embeddings_file.append_rows(self.path / EMBEDDINGS, before, parts, info.dimension, info.dtype)
        last = max((pc.max(item["id"]).as_py() for item in records if len(item)), default=state.next_id - 1)
        schema = reduce(records_file.common_schema, (item.schema for item in records), self.schema)
        count, checksum, last_row = written
        new = replace(state, count=count, checksum=checksum, last_row=last_row, next_id=last + 1)
        self._write_records(chain(self.batches(), records), schema, new)
        return new

    def _take_back(self) -> None:
        """Remove what a failed addition has written; else the disk would stay full, and nothing could be removed."""
        with suppress(OSError):
            embeddings_file.cut_rows(self.path / EMBEDDINGS, self.state.count, self.info.dimension, self.info.dtype)
            if not self._records.is_current():
                self._write_records(self.batches(), self.schema, self.state)

    def _counted(
        self, parts: Iterable[np.ndarray], records: Sequence[pa.Table], sums: CameraSums
    ) -> Iterator[np.ndarray]:
        """Yield the parts and add their rows to the sums of their cameras."""
        cameras = pa.concat_tables([table.select(["camera"]) for table in records])["camera"]
        start = 0
        for part in parts:
            sums.add(self.info.decode(part), cameras.slice(start, len(part)))
            start += len(part)
            yield part

    def _commit_with(self, sums: CameraSums | None, state: State) -> None:
        """Write the sums of the cameras, if there are any, then commit."""
        if sums is not None:
            sums.save(self.path, state)
        self.commit(state)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out, and read what earlier ones have committed; may be nested."""
        recover(self.path, replaced_files)
        with self.lock:
            clear(self.path, replaced_files)
            self.refresh()
            yield

    def commit(self, state: State) -> None:
        """Write gallery.json with `state`; within `with self.lock`."""
        state.write(self.path)
        self.reload()

    def remove(self, ids: Ids, reason: str | None = suppress_list.REMOVED) -> int:
        """Remove rows by id; searches no longer return them, and `compact` frees their space. Return how many.

        They stay out: no addition, export or merge brings rows of their images and boxes back, until `allow`.

        Args:
            reason: kept in the list of suppressed rows; None = the same rows may be added again.
        Raises:
            ValueError: an id is no whole number (a mask of rows, for example) or not in the gallery; nothing is removed.
        """
        with self.writing():
            gone = np.unique(as_ids(ids))
            places = self.positions(gone)
            sums = self.camera_sums() if self.info.camera_norm != OFF else None
            entries = self.suppressed if reason is None else self.suppressed_with(places, reason)
            suppress_list.write_list(self.path, entries)
            self._commit_with(sums, self._without(replace(self.state, suppressed=len(entries)), gone, sums))
        return len(gone)

    def _without(self, state: State, ids: np.ndarray, sums: CameraSums | None) -> State:
        """Return the state with more removed rows, which are taken off the sums of their cameras."""
        if sums is not None:
            places = self.positions(ids)
            cameras = self.select(["camera"])["camera"].take(pa.array(places))
            sums.add(self.vectors(places), cameras, sign=-1)
        return replace(state, removed=tuple(sorted({*state.removed, *ids.tolist()})))

    def set_suppressed(self, entries: pa.Table) -> None:
        """Replace the list of suppressed rows; one that only lost entries is in force with the commit."""
        with self.writing():
            lost = self.suppressed.filter(pa.array(~are_in(keys_in(self.suppressed), keys_in(entries))))
            suppress_list.write_list(self.path, pa.concat_tables([entries, lost]))  # both lists, the new one first
            self.commit(replace(self.state, suppressed=len(entries)))
            suppress_list.write_list(self.path, entries)

    def update(self, ids: Ids, values: Mapping[str, Any]) -> int:
        """Set columns of some records, e.g. `{"pid": "7"}`; a new column is null in the other rows. Return how many rows.

        Raises:
            ValueError: an id is no whole number or not in the gallery, `id` or `path` would be lost, or a value does not fit its column.
        """
        with self.writing():
            rows = np.zeros(self.state.count, bool)
            rows[self.positions(ids)] = True
            changed = records_file.changed(self._records.read(), rows, values)
            if "camera" in values:
                (self.path / CAMERAS).unlink(missing_ok=True)  # first: after a crash it is computed again
            self._write_records([changed], changed.schema, self.state)
            self.reload()
            if "camera" in values and self.info.camera_norm != OFF:
                self.camera_sums().save(self.path, self.state)
        return int(rows.sum())

    def set_values(self, ids: Ids, values: Mapping[str, pa.Array]) -> int:
        """Set columns of some records row by row; a new column is null in the other rows. Return how many rows.

        Args:
            ids: (n,); those removed in the meantime are left out.
            values: column -> (n,) values.
        Raises:
            ValueError: `id`, or a column that statistics are kept of, is named, or a value does not fit its column.
        """
        with self.writing():
            wanted = as_ids(ids)
            there = np.isin(wanted, self.ids[self.is_live])
            places = self.positions(wanted[there])
            chosen = {name: column.filter(pa.array(there)) for name, column in values.items()}
            table = records_file.scattered(self._records.read(), places, chosen)
            self._write_records([table], table.schema, self.state)
            self.reload()
        return len(places)

    def set_info(self, **values: Any) -> None:
        """Replace values of `info` as `GalleryInfo.with_values`: threshold, preprocess, embed, camera_norm.

        Raises:
            UserError: `camera_norm` is not none and a camera has too few rows for its statistics.
        """
        with self.writing():
            state = replace(self.state, info=self.info.with_values(**values))
            sums = self.camera_sums() if state.info.camera_norm != OFF else None
            if sums is not None:
                sums.check()
            self._commit_with(sums, state)

    def encoded(self, embeddings: np.ndarray) -> np.ndarray:
        """Return embeddings (n, D), or (n, dimension before the projection), as stored; raise UserError where they do not fit."""
        vectors = self.project(np.asarray(embeddings))
        rows = self.info.encode(vectors)
        bad = np.flatnonzero(~np.isfinite(rows if rows.dtype.kind == "f" else embeddings).all(1))
        if len(bad):
            raise UserError(
                f"embeddings: row {bad[0]} holds NaN or values that {self.info.dtype} cannot hold ({len(bad)} such rows)"
            )
        check_not_cut(vectors, rows, self.info)
        return rows

    def _write_records(self, tables: Iterable[pa.Table], schema: pa.Schema, state: State) -> None:
        records_file.write_records(self.path / RECORDS, tables, schema, state.count, state.checksum)


def _is_replaced(path: Path, overwrite: bool) -> bool:
    """Return whether the folder holds a gallery; False if it is empty except for remains of an interrupted `create`.

    Raises:
        FileExistsError: it holds something else, or a gallery and `overwrite` is false.
    """
    if (path / METADATA).exists():
        if not overwrite:
            raise FileExistsError(f"{path} is a gallery already; open it, choose another folder, or overwrite it")
        return True
    if foreign := sorted({item.name for item in path.iterdir()} - OWN_FILES):
        raise FileExistsError(f"{path} is no gallery, but not empty either ({foreign[0]}); choose another folder")
    return False


def _make_empty(
    path: Path, info: GalleryInfo, projection: Projection | None, suppressed: pa.Table | None = None
) -> None:
    if projection is not None:
        projection.save(path)
        info = replace(info, projection=projection.fingerprint)
    entries = suppress_list.empty_list() if suppressed is None else suppressed
    suppress_list.write_list(path, entries)
    state = State(info, suppressed=len(entries))
    embeddings_file.append_rows(path / EMBEDDINGS, embeddings_file.Written(0, 0, None), (), info.dimension, info.dtype)
    records_file.write_records(path / RECORDS, [], records_file.CORE, 0, 0)
    state.write(path)
