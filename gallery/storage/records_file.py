"""records.parquet: one record per row of embeddings.npy, in the same order."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.forked_processes import watch_forks
from ...common.inputs.parquet_file import ParquetInput
from ...common.text import to_seconds
from ...labels.label_text import as_name

CORE = pa.schema(
    {
        "id": pa.int64(),
        "path": pa.string(),
        "pid": pa.string(),
        "camera": pa.string(),
        "view": pa.string(),
        "time": pa.float64(),  # seconds since 1970, UTC
        "tracklet": pa.string(),
    }
)
GROUP_ROWS = 2**14  # rows per row group, the unit of reading: small enough to look up a few records quickly
KEPT_GROUPS = 64  # row groups that stay in memory
EMBEDDINGS = b"vitreid.embeddings"  # key of the count and checksum of the embeddings, in the file's metadata

ACCEPTED: dict[str, tuple[pa.DataType, ...]] = {  # types of columns, also as other programs write them
    name: (pa.string(), pa.large_string(), pa.string_view(), pa.null())
    for name in CORE.names
    if CORE.field(name).type == pa.string()
} | {"time": (pa.float64(), pa.float32(), pa.int64(), pa.null())}

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table


def is_plain(kind: pa.DataType) -> bool:
    """Return whether a column holds text, numbers or truth values, or nothing: what databases of vectors store."""
    types = pa.types
    plain = (
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_string,
        types.is_large_string,
        types.is_null,
    )
    return any(is_it(kind) for is_it in plain)


def as_records(rows: Rows, count: int) -> pa.Table:
    """Return `rows` as a table: the columns of CORE except `id`, with its order and types, then further columns unchanged.

    Numbers are accepted as names, 1.0 as "1" and NaN as unknown, as pandas has them; `time` may be seconds, a datetime or ISO 8601 (UTC unless an offset is given).

    Raises:
        ValueError: not `count` rows, no path, an `id`, or values of mixed types; names the column.
    """
    table = rows if isinstance(rows, pa.Table) else _from_dicts(rows)
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise UserError(f"records: the column {', '.join(twice)} stands twice; keep one")
    if len(table) != count:
        raise UserError(f"records: {count} embeddings need {count} records, got {len(table)}")
    if "id" in table.column_names:
        raise UserError("records: the gallery gives the ids itself; leave 'id' out or give the column another name")
    columns = {name: _core_column(table, name, count) for name in CORE.names[1:]}
    if columns["path"].null_count:
        raise UserError("records: every record needs a path (text)")
    extra = [name for name in table.column_names if name not in columns]
    return pa.table({**columns, **{name: table[name] for name in extra}})


def _from_dicts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = _as_column(name, values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
            raise UserError(f"records: column {name!r} has values of mixed types ({error}); use one type") from error
    return pa.table(columns)


def _as_column(name: str, values: list[Any]) -> pa.Array:
    if name == "time":
        seconds = [to_seconds(value) for value in values]
        if any(value is not None and math.isinf(value) for value in seconds):
            raise UserError(
                "records: a time is infinite; give finite seconds or ISO 8601, and None where it is unknown"
            )
        return pa.array(seconds, pa.float64())
    if name == "path":
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if name in CORE.names[1:]:
        return pa.array([as_name(value) for value in values], pa.string())
    return pa.array([value.item() if isinstance(value, np.generic) else value for value in values])


def _core_column(table: pa.Table, name: str, count: int) -> pa.ChunkedArray | pa.Array:
    kind = CORE.field(name).type
    if name not in table.column_names:
        return pa.nulls(count, kind)
    column = table[name]
    if name == "time" and not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return _as_column(name, column.to_pylist())
    if pa.types.is_floating(column.type) and kind == pa.string():  # pandas' numbers next to a missing one
        return _as_column(name, column.to_pylist())
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"records: column {name!r} cannot be read as {kind} ({error})") from error


def with_ids(records: pa.Table, ids: np.ndarray) -> pa.Table:
    """Return the records with `ids` (n,) as their first column, `id`."""
    return records.add_column(0, CORE.field("id"), pa.array(ids, pa.int64()))


def common_schema(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """Return the columns of both, the first's before the second's, each with a type that holds the values of both.

    Raises:
        ValueError: a column has two types without a common one; names it.
    """
    found = {name: first.field(name).type for name in first.names}
    for item in second:
        pair = [pa.schema({item.name: kind}) for kind in (found.get(item.name, item.type), item.type)]
        try:
            found[item.name] = pa.unify_schemas(pair, promote_options="permissive").field(0).type
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UserError(
                f"records: column {item.name!r} holds {found[item.name]} in the gallery and {item.type} in the new "
                "records; convert or rename it"
            ) from error
    return pa.schema(found)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns of `schema`; missing ones are null."""
    columns = [
        table[item.name].cast(item.type) if item.name in table.column_names else pa.nulls(len(table), item.type)
        for item in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_records(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, count: int, checksum: int) -> None:
    """Write consecutive tables, atomically, with about one row group in memory; equal rows give equal bytes.

    Args:
        count, checksum: of the embeddings of these records.
    """
    schema = schema.with_metadata({EMBEDDINGS: f"{count} {checksum}".encode()})

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in _regroup(conform(table, schema) for table in tables):
                writer.write_table(group.replace_schema_metadata(schema.metadata), row_group_size=GROUP_ROWS)

    write_atomically(path, write)


def _regroup(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows as tables of GROUP_ROWS rows; the last may be shorter."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += len(table)
        if size >= GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            full = size - size % GROUP_ROWS
            for start in range(0, full, GROUP_ROWS):
                yield joined.slice(start, GROUP_ROWS).combine_chunks()
            waiting, size = [joined.slice(full)], size - full
    if size:
        yield pa.concat_tables(waiting).combine_chunks()


def check_columns(columns: Sequence[str], schema: pa.Schema) -> None:
    """Raise UserError, listing the columns of a schema, if one of `columns` is missing."""
    if unknown := [name for name in columns if name not in schema.names]:
        raise UserError(f"no column {', '.join(unknown)}; the records have {', '.join(schema.names)}")


class RecordsFile:
    """The first `count` rows of a records.parquet, read as needed. The file stays open, so rows of a replacement never mix in.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged, has fewer rows or lacks a column; names it.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count
        try:
            self._file = ParquetInput(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file; restore it or export again") from None
        self.schema = self._file.schema.remove_metadata()  # below: columns of CORE without any value get their types
        if twice := sorted({name for name in self.schema.names if self.schema.names.count(name) > 1}):
            raise UserError(f"{path}: the column {', '.join(twice)} stands twice; keep one")
        if missing := [name for name in CORE.names if name not in self.schema.names]:
            raise UserError(f"{path}: missing column {', '.join(missing)}; found {', '.join(self.schema.names)}")
        for name in CORE.names:
            if (kind := self.schema.field(name).type) not in ACCEPTED.get(name, (CORE.field(name).type,)):
                raise UserError(
                    f"{path}: the column {name!r} holds {kind}, expected {CORE.field(name).type}; restore it"
                )
        for place, item in enumerate(self.schema):
            if item.name in CORE.names and pa.types.is_null(item.type):
                self.schema = self.schema.set(place, CORE.field(item.name))
        if self._file.metadata.num_rows < count:
            raise UserError(
                f"{path} holds {self._file.metadata.num_rows} of {count} records; restore it or export again"
            )
        sizes = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._groups: dict[int, pa.Table] = {}
        self._keeping = threading.Lock()  # of `_groups`
        self._identity = _identity(path)
        watch_forks(self)

    def after_fork(self) -> None:
        """Replace the lock in a child of `fork`: another thread of the parent may hold it."""
        self._keeping = threading.Lock()

    def is_current(self) -> bool:
        """Return whether the file at this path is still the opened one."""
        return _identity(self.path) == self._identity

    @property
    def mark(self) -> tuple[int, int] | None:
        """Count and checksum of the embeddings for which the records were written; None in files of other programs."""
        text = (self._file.metadata.metadata or {}).get(EMBEDDINGS, b"").decode(errors="replace")
        found = re.fullmatch(r"(\d{1,18}) (\d{1,10})", text)
        return (int(found[1]), int(found[2])) if found else None

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, all columns or some; errors as `check`."""
        if columns is not None:
            self.check(columns)
        num_groups = int(np.searchsorted(self._starts, self.count))  # more may be of an interrupted addition
        return self._checked(self._file.read(range(num_groups), columns).slice(0, self.count))

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError, listing the columns of the file, if one of `columns` is missing."""
        check_columns(columns, self.schema)

    def batches(self, columns: Sequence[str] | None = None, num_groups: int = 1) -> Iterator[pa.Table]:
        """Yield the rows as consecutive tables of `num_groups` row groups each; at least one table."""
        if not self.count:
            yield self.read(columns)
        left = self.count
        for first in range(0, self._file.num_groups, num_groups):
            if left <= 0:
                return
            groups = range(first, min(first + num_groups, self._file.num_groups))
            table = self._file.read(groups, columns).slice(0, left)
            left -= len(table)
            yield self._checked(table)

    def _checked(self, table: pa.Table) -> pa.Table:
        """Return rows with the types of `schema`, and no metadata.

        Raises:
            UserError: a record has no id or path.
        """
        for name in ("id", "path"):
            if name in table.column_names and table[name].null_count:
                raise UserError(f"{self.path}: a record has no {name}; restore it or export again")
        return table.cast(pa.schema([self.schema.field(name) for name in table.column_names]))

    def take(self, positions: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return some records as dictionaries, reading only their row groups, each once."""
        places = np.asarray(positions, np.int64)
        if len(wrong := places[(places < 0) | (places >= self.count)]):
            raise IndexError(f"position {wrong[0]} is outside the {self.count} records of {self.path}")
        found: list[dict[str, Any]] = [{}] * len(places)
        numbers = np.searchsorted(self._starts, places, "right") - 1
        for number in np.unique(numbers).tolist():
            own = np.flatnonzero(numbers == number)
            rows = self._group(number).take(pa.array(places[own] - self._starts[number]))
            for place, row in zip(own.tolist(), rows.to_pylist(), strict=True):
                found[place] = row
        return found

    def _group(self, number: int) -> pa.Table:
        with self._keeping:
            if number not in self._groups:
                if len(self._groups) >= KEPT_GROUPS:
                    self._groups.pop(next(iter(self._groups)))
                left = self.count - int(self._starts[number])
                self._groups[number] = self._checked(self._file.read([number]).slice(0, left))
            return self._groups[number]


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def changed(table: pa.Table, rows: np.ndarray, values: Mapping[str, Any]) -> pa.Table:
    """Return the table with the columns of `values` set where `rows` (n,) is true; a new column is added.

    Raises:
        ValueError: `id` or `path` would be lost, or a value does not fit its column.
    """
    if "id" in values or ("path" in values and values["path"] is None):
        raise UserError("update: ids stay as they are, and every record needs a path")
    for name, value in values.items():
        column = _as_column(name, [value])
        schema = common_schema(table.schema, pa.schema({name: column.type}))
        table = conform(table, schema)
        place = schema.get_field_index(name)
        new = pc.if_else(pa.array(rows), column.cast(schema.field(name).type)[0], table[name])
        table = table.set_column(place, schema.field(name), new)
    return table


def with_found_paths(records: pa.Table, folder: Path) -> pa.Table:
    """Return records whose relative paths start at the gallery's folder, or are absolute.

    Args:
        folder: where the relative paths of the gallery's records start. One that leads to no file there, but to one from the
            working folder, becomes absolute; one that leads to no file at all stays.
    """
    names = records["path"].to_pylist()
    if all(os.path.isabs(name) for name in names):
        return records
    found = [_found(name, folder) for name in names]
    place = records.schema.get_field_index("path")
    return records.set_column(place, CORE.field("path"), pa.array(found, CORE.field("path").type))


def _found(name: str, folder: Path) -> str:
    if os.path.isabs(name) or (folder / name).exists() or not os.path.exists(name):
        return name
    return os.path.abspath(name)


def scattered(table: pa.Table, places: np.ndarray, values: Mapping[str, pa.Array]) -> pa.Table:
    """Return the table with the values (n,) of some columns at `places` (n,); a new column is null in the other rows.

    Raises:
        ValueError: `id`, `path` or `camera` is named, or the values do not fit their column.
    """
    if kept := sorted({"id", "path", "camera"} & set(values)):
        raise UserError(f"set_values: {', '.join(kept)} cannot be set row by row; see update")
    source = np.full(len(table), -1)
    source[places] = np.arange(len(places))
    is_set, rows = pa.array(source >= 0), pa.array(source, mask=source < 0)
    for name, column in values.items():
        schema = common_schema(table.schema, pa.schema({name: column.type}))
        table = conform(table, schema)
        kind = schema.field(name)
        new = pc.if_else(is_set, column.cast(kind.type).take(rows), table[name].combine_chunks())
        table = table.set_column(schema.get_field_index(name), kind, new)
    return table
