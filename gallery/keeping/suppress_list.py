"""suppressed.parquet: keys of removed rows, which no addition, export or merge brings back.

gallery.json holds the number of valid entries, so they are committed with the removal; entries behind them are of a call that
was killed. The file holds digests, no names and no paths.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.parquet_file import ParquetInput
from ..storage.file_names import SUPPRESSED
from ..storage.metadata import State
from .row_keys import KEY_TYPE, are_in

SCHEMA = pa.schema({"key": KEY_TYPE, "time": pa.float64(), "reason": pa.string()})  # seconds since 1970
REMEDY = "restore it from a copy of the gallery; without it, removed rows would come back"
KEPT_OUT = "%s: %d of %d rows were removed earlier and stay out; to let them in again: vitreid gallery allow"
REMOVED, EXPIRED = "removed", "expired"  # reasons


def empty_list() -> pa.Table:
    """Return a list without entries."""
    return SCHEMA.empty_table()


def entries(keys: pa.Array, reason: str = REMOVED) -> pa.Table:
    """Return entries of now for some keys (N,)."""
    count = len(keys)
    columns = [keys, pa.array(np.full(count, time.time())), pa.array([reason] * count, pa.string())]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def read_list(folder: Path, count: int) -> pa.Table:
    """Return the first `count` entries of the list in a gallery's folder.

    Raises:
        UserError: the file is missing, damaged or holds fewer; names it.
    """
    if not count:
        return empty_list()
    path = folder / SUPPRESSED
    try:
        table = ParquetInput(path, REMEDY).read(columns=SCHEMA.names).replace_schema_metadata(None)
    except FileNotFoundError:
        raise UserError(f"{path} is missing, it holds the keys of {count} removed rows; {REMEDY}") from None
    if table.schema != SCHEMA or table["key"].null_count:
        raise UserError(f"{path} holds other columns than {', '.join(SCHEMA.names)}, or keys are empty; {REMEDY}")
    if len(table) < count:
        raise UserError(f"{path} holds {len(table)} of {count} entries; {REMEDY}")
    return table.slice(0, count).combine_chunks()


def earlier_list(folder: Path) -> pa.Table:
    """Return the list of a gallery that is about to be replaced; if its gallery.json is damaged, all entries of the file.

    Raises:
        UserError: as `read_list`.
    """
    try:
        count = State.read(folder).suppressed
    except UserError:
        path = folder / SUPPRESSED
        count = ParquetInput(path, REMEDY).metadata.num_rows if path.exists() else 0
    return read_list(folder, count)


def write_list(folder: Path, table: pa.Table) -> None:
    """Write the list, atomically; an empty one only replaces another."""
    path = folder / SUPPRESSED
    if len(table) or path.exists():
        write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def keys_in(table: pa.Table) -> pa.Array:
    """Return the keys (N,) of a list."""
    return table["key"].combine_chunks()


def joined(first: pa.Table, second: pa.Table) -> pa.Table:
    """Return the entries of the first, then those of the second with other keys, each key once."""
    keys = keys_in(second)
    once = np.zeros(len(second), bool)
    once[np.unique(np.array(keys.to_pylist(), object), return_index=True)[1]] = True
    new = once & ~are_in(keys, keys_in(first))
    return pa.concat_tables([first, second.filter(pa.array(new))]).combine_chunks()
