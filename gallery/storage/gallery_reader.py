"""Read a gallery folder: embeddings, records and metadata of one committed state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...common.replace_folder import read_through
from ...labels.camera_norm import OFF
from ..keeping import row_keys, suppress_list
from . import embeddings_file
from .camera_statistics import CameraNorm, CameraSums
from .file_names import EMBEDDINGS, METADATA, OWN_FILES, RECORDS, replaced_files
from .metadata import GalleryInfo, State
from .projection import Projection
from .records_file import RecordsFile
from .row_ids import Ids, as_ids

T = TypeVar("T")
LOAD_TRIES, LOAD_PAUSE = 100, 0.02  # attempts to read all files of one state, seconds between them; 2 s in all


class GalleryReader:
    """The embeddings and records of a gallery folder, row by row the same, as of the last `reload`.

    The folder holds embeddings.npy (N, D), records.parquet and gallery.json. gallery.json gives the number of valid rows.
    Removed rows stay in the files until `compact`. A relative `path` of a record starts at the gallery's folder.
    """

    _table: pa.Table | None
    _ids: np.ndarray | None
    _camera_norm: CameraNorm | None
    _suppressed: pa.Table | None
    _known: embeddings_file.Known | None = None

    def __init__(self, path: Path, rows: str = embeddings_file.MAPPED) -> None:
        if rows not in embeddings_file.WAYS:
            raise UserError(f"rows: unknown way {rows!r}; choose from {', '.join(embeddings_file.WAYS)}")
        self.path = self.home = path  # home: where the folder will be, if it is still being made
        self.way = rows
        self.reload()

    def __len__(self) -> int:
        """Return the number of live rows."""
        return self.state.count - len(self.state.removed)

    @property
    def info(self) -> GalleryInfo:
        """Origin of the embeddings and how they are compared."""
        return self.state.info

    @property
    def files(self) -> list[Path]:
        """The gallery's own files; those of the user are not among them."""
        return [self.path / name for name in sorted(OWN_FILES) if (self.path / name).is_file()]

    @property
    def embeddings(self) -> embeddings_file.Rows:
        """(count, D) rows as stored, removed ones included; read-only. `info.decode` makes them float32.

        An array, by default a memory map; or `FileRows`, which have its shape and slices, by the way of reading.
        """
        return self._embeddings

    @property
    def records(self) -> pa.Table:
        """The records of the (count) rows in the same order; read once and kept. `select` and `rows_at` read less."""
        if self._table is None:
            self._table = self._records.read()
        return self._table

    @property
    def projection(self) -> Projection | None:
        """Projection of embeddings and queries, None = none."""
        return self._projection

    @property
    def camera_norm(self) -> CameraNorm | None:
        """Normalisation of rows and queries by their cameras, None = none; computed when first asked for, and kept.

        Raises:
            UserError: a camera has too few rows left.
        """
        if self.info.camera_norm != OFF and self._camera_norm is None:
            sums = self.camera_sums()
            codes = [sums.codes(batch["camera"]) for batch in self.batches(["camera"])]
            self._camera_norm = CameraNorm(self.info.camera_norm, sums, np.concatenate(codes))
        return self._camera_norm

    def camera_sums(self) -> CameraSums:
        """Return the sums over the live rows of each camera, from cameras.npz or from the rows."""
        sums = CameraSums.load(self.path, self.state)
        if sums is None:
            sums, live, start = CameraSums.empty(self.info.dimension), self.is_live, 0
            for batch in self.batches(["camera"]):
                own = np.flatnonzero(live[start : start + len(batch)])
                sums.add(self.vectors(start + own), batch["camera"].take(pa.array(own)))
                start += len(batch)
        return sums

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

    @property
    def suppressed(self) -> pa.Table:
        """Keys of rows that were removed and stay out, with time and reason; read once and kept."""
        if self._suppressed is None:
            self._suppressed = suppress_list.read_list(self.path, self.state.suppressed)
        return self._suppressed

    def keys(self) -> pa.FixedSizeBinaryArray:
        """Return the keys of the (count) rows, removed ones included; see `row_keys.keys_of`."""
        return row_keys.keys_of(self.select(row_keys.key_columns(self.columns)), self.home)

    def live_keys(self) -> pa.FixedSizeBinaryArray:
        """Return the keys of the rows that were not removed."""
        return self.keys().filter(pa.array(self.is_live))

    def is_suppressed(self, keys: pa.Array) -> np.ndarray:
        """Return (n,) bool: which keys (n,) are of removed rows that stay out."""
        return row_keys.are_in(keys, suppress_list.keys_in(self.suppressed))

    def admitted(self, records: pa.Table) -> np.ndarray:
        """Return (n,) bool: False for records of rows that were removed earlier."""
        if not self.state.suppressed:
            return np.ones(len(records), bool)
        return ~self.is_suppressed(row_keys.keys_of(records, self.home))

    def suppressed_with(self, places: np.ndarray, reason: str) -> pa.Table:
        """Return the list with the keys of the rows at `places`, but for keys that other live rows have, too."""
        keys, stays = self.keys(), self.is_live
        stays[places] = False
        gone = keys.take(pa.array(places))
        gone = gone.filter(pa.array(~row_keys.are_in(gone, keys.filter(pa.array(stays)))))
        return suppress_list.joined(self.suppressed, suppress_list.entries(gone, reason))

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of the records (count rows) without reading the others; errors as `RecordsFile.check`."""
        self._records.check(columns)
        return self._records.read(columns) if self._table is None else self._table.select(list(columns))

    def batches(self, columns: Sequence[str] | None = None, num_groups: int = 1) -> Iterator[pa.Table]:
        """Yield the records (count rows), or some columns, as consecutive tables of some row groups each, at least one."""
        return self._records.batches(columns, num_groups)

    def rows_at(self, positions: Ids) -> list[dict[str, Any]]:
        """Return the records at some positions (0 … count - 1), each as a dictionary."""
        return self._records.take(as_ids(positions, "positions"))

    def positions(self, ids: Ids, removed_too: bool = False) -> np.ndarray:
        """Return the positions (n,) of the rows with these ids.

        Raises:
            ValueError: an id is no whole number, is not in the gallery, or was removed.
        """
        wanted = as_ids(ids)
        places = np.minimum(np.searchsorted(self.ids, wanted), max(0, self.state.count - 1))
        is_there = self.ids[places] == wanted if self.state.count else np.zeros(len(wanted), bool)
        if not removed_too and self.state.removed:
            is_there &= ~np.isin(wanted, self.state.removed)
        if not is_there.all():
            raise UserError(f"id {wanted[~is_there][0]} is not in {self.path}, or was removed")
        return places

    def vectors(self, positions: Ids) -> np.ndarray:
        """Return the float32 embeddings (n, D) at some positions; raise CutShortError if their file was cut short."""
        embeddings_file.check_length(self.embeddings)
        return self.info.decode(self.embeddings[as_ids(positions, "positions")])

    def rows_of(self, ids: Ids) -> list[dict[str, Any]]:
        """Return the records with these ids, each as a dictionary; errors as for `positions`."""
        return self.rows_at(self.positions(ids))

    def vectors_of(self, ids: Ids) -> np.ndarray:
        """Return the float32 embeddings (n, D) of the rows with these ids; errors as for `positions`."""
        return self.vectors(self.positions(ids))

    def image_path(self, path: str) -> Path:
        """Return the location of a record's image."""
        return self.path / path

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Return embeddings of the model (n, dimension before the projection) as (n, D); rows (n, D) are returned unchanged.

        Raises:
            ValueError: any other shape; names the accepted ones.
        """
        accepted = {self.info.dimension, self._projection.num_inputs if self._projection else self.info.dimension}
        if rows.ndim != 2 or rows.shape[1] not in accepted:
            raise UserError(
                f"embeddings of shape {rows.shape} do not fit {self.path}: expected (n, {' or '.join(map(str, sorted(accepted)))})"
            )
        return rows if self._projection is None or rows.shape[1] == self.info.dimension else self._projection(rows)

    def check_output(self, path: str | Path) -> None:
        """Raise ValueError if a gallery derived from this one would replace it."""
        if Path(path).expanduser().resolve() == self.path:
            raise UserError(f"output: {self.path} is the gallery that is read; choose another folder")

    def refresh(self) -> None:
        """Read the state again if another process has changed it."""
        if not self._read_through(self._is_current):
            self.reload()

    def _is_current(self) -> bool:
        state, info = self.state, self.info
        return (
            State.read(self.path) == state
            and self._records.is_current()
            and embeddings_file.has_rows(self.path / EMBEDDINGS, state.count, info.dimension, info.dtype)
        )

    def reload(self) -> None:
        """Open all files of the state in gallery.json.

        Raises:
            TimeoutError: another process commits so often that no state could be read in LOAD_TRIES attempts.
            FileNotFoundError, ValueError: a file is missing or damaged; names it.
        """
        for attempt in range(LOAD_TRIES):
            if attempt:
                time.sleep(LOAD_PAUSE)
            if self._read_through(self._try_load):
                self._table = self._ids = self._camera_norm = self._suppressed = None
                return
        raise TimeoutError(
            f"{self.path} changed during each of {LOAD_TRIES} attempts to read it: another process writes to it without "
            "a pause; add more rows per call there, or try again when it is done"
        )

    def _read_through(self, read: Callable[[], T]) -> T:
        return read_through(self.path / METADATA, replaced_files, read)

    def _try_load(self) -> bool:
        """Return False if another process committed in the meantime."""
        self.state = State.read(self.path)
        try:
            self._records = RecordsFile(self.path / RECORDS, self.state.count)
            written = embeddings_file.Written(self.state.count, self.state.checksum, self.state.last_row)
            self._embeddings = embeddings_file.open_rows(
                self.path / EMBEDDINGS, written, self.info.dimension, self.info.dtype, self.way, self._known
            )
            self._projection = Projection.load(self.path) if self.info.projection else None
            embeddings_file.check_last_row(self.path / EMBEDDINGS, self._embeddings, self.state.last_row)
            if not embeddings_file.belong_to(
                self.path / EMBEDDINGS, self._embeddings, self.state.checksum, self._records.mark
            ):
                raise UserError(
                    f"{self.path / RECORDS} was written for other embeddings than {EMBEDDINGS}; restore the folder as a "
                    "whole"
                )
        except (OSError, ValueError):
            if State.read(self.path) == self.state:
                raise
            return False
        if State.read(self.path) != self.state:
            return False
        is_kept = self.way == embeddings_file.KEPT and isinstance(self._embeddings, np.ndarray)
        self._known = embeddings_file.Known(self._embeddings, self.state.checksum) if is_kept else None  # type: ignore[arg-type]
        return True
