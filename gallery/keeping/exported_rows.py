"""exported.parquet: which rows of a gallery come from which source of an export; the others were added by hand or merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.parquet_file import ParquetInput
from ..storage.file_names import EXPORTED
from .row_keys import KEY_TYPE, are_in

SCHEMA = pa.schema({"key": KEY_TYPE, "source": pa.string(), "stamp": KEY_TYPE})
REMEDY = "restore it, or delete it: then no row counts as exported"


def read_exported(folder: Path) -> pa.Table:
    """Return key, source and stamp, a digest of size and date of the image file, of the exported rows; empty if there is no file.

    Raises:
        UserError: the file is damaged; names it.
    """
    path = folder / EXPORTED
    try:
        table = ParquetInput(path, REMEDY).read(columns=SCHEMA.names).replace_schema_metadata(None)
    except FileNotFoundError:
        return SCHEMA.empty_table()
    if table.schema != SCHEMA:
        raise UserError(f"{path} holds other columns than {', '.join(SCHEMA.names)}; {REMEDY}")
    return table.combine_chunks()


def write_exported(
    folder: Path, source: str, keys: pa.Array, stamps: pa.Array, earlier: pa.Table | None = None
) -> None:
    """Write the file: the rows (N,) of a source, and those of other sources that there were.

    Args:
        source: as `source_name`.
        earlier: as read before; None = there are no other sources.
    """
    table = pa.Table.from_arrays([keys, pa.array([source] * len(keys), pa.string()), stamps], schema=SCHEMA)
    if earlier is not None and len(earlier):
        others = np.array([name != source for name in earlier["source"].to_pylist()], bool)
        others &= ~are_in(earlier["key"].combine_chunks(), keys)
        table = pa.concat_tables([earlier.filter(pa.array(others)), table])
    write_atomically(folder / EXPORTED, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def source_name(text: str) -> str:
    """Return a source as it is compared: a file or folder by its absolute path, anything else as given."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() else text
