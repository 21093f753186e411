"""A Parquet, npz or CSV file of embeddings and their columns -> a gallery; the inverse of `export_as`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ...common.errors import UserError, choose
from ...common.inputs.archives import NUMBERS, TEXT, read_arrays
from ...common.inputs.parquet_file import ParquetInput
from ...common.inputs.regular_files import open_regular
from ...labels.column_names import find_columns
from ..maintenance.export_formats import INFO
from ..maintenance.merge_compact import placed
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo

VECTORS = ("embedding", "embeddings", "vector", "vectors", "feature", "features")  # columns or arrays of embeddings
FIELDS = ("path", "pid", "camera", "view", "time", "tracklet")
_NUMBERED = re.compile(r"e\d+")


class PlainRows(NamedTuple):
    """The content of a file.

    Args:
        embeddings: (N, D) float32.
        records: N records without ids.
        info: the gallery they were written from, None = the file does not say.
    """

    embeddings: np.ndarray
    records: pa.Table
    info: GalleryInfo | None


def from_file(
    file: str | Path, output: str | Path, info: GalleryInfo | None = None, overwrite: bool = False
) -> Gallery:
    """Make a gallery of the rows of a file; the file must fit in memory.

    Args:
        file: .parquet with a column `embedding` of lists, .npz with an array `embeddings` (N, D), or .csv with columns e0, e1, …;
            the other columns are those of a record, under any of the field's usual names; `path` is needed, and starts at the
            file's folder where it is relative. Ids are given anew.
        output: the gallery's folder.
        info: what made the embeddings; its dimension is that of the file. None = as the file says, which only a Parquet file
            of `export_as` does.
        overwrite: replace an existing gallery; its list of suppressed rows stays, and rows on it are left out.
    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, lacks embeddings or paths, or does not say what made them.
    """
    file, folder = Path(file).expanduser(), Path(output).expanduser().resolve()
    rows = read_rows(file)
    info = info or rows.info
    if info is None:
        raise UserError(
            f"{file} does not say which model made its embeddings; add --like GALLERY, a gallery of the same model, or --model NAME "
            "and --metric"
        )
    info = info.moved(rows.embeddings.shape[1])
    records = placed(rows.records, file.absolute().parent, folder)
    return Gallery.build(folder, info, lambda made: made.add(rows.embeddings, records, info.model), overwrite)


def read_rows(file: Path) -> PlainRows:
    """Return the embeddings and records of a file; errors as `from_file`."""
    read = choose("FILE: the suffix", file.suffix.lower(), READERS)
    embeddings, records, about = read(file)
    if embeddings.ndim != 2 or not embeddings.shape[1]:
        raise UserError(f"{file}: embeddings of shape {embeddings.shape}; expected (N, D), one row per image")
    meanings = find_columns(records.column_names, FIELDS, str(file))
    if "path" not in meanings.values():
        raise UserError(f"{file}: no column path; found {', '.join(records.column_names) or 'none'}")
    records = records.rename_columns([meanings.get(name, name) for name in records.column_names])
    if "id" in records.column_names:  # of the gallery that wrote it
        records = records.drop_columns(["id"])
    place = records.schema.get_field_index("path")
    try:
        records = records.set_column(place, "path", records["path"].cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{file}: the column path holds {records['path'].type}, expected text") from error
    info = None if about is None else _origin(file, about)
    return PlainRows(np.ascontiguousarray(embeddings, np.float32), records, info)


def _origin(file: Path, about: bytes) -> GalleryInfo:
    """Return the description of the gallery that wrote the file."""
    try:
        return GalleryInfo.from_dict(json.loads(about))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: its description of the gallery is damaged ({error}); write the file again") from error


# ---- readers: file -> embeddings, records, description


def _read_parquet(file: Path) -> tuple[np.ndarray, pa.Table, bytes | None]:
    source = ParquetInput(file, "write it again")
    table = source.read()
    name = _vector_column(file, [item.name for item in table.schema if _is_list(item.type)], table.column_names)
    column = table[name].combine_chunks()
    widths = np.unique(np.diff(column.offsets.to_numpy())) if not pa.types.is_fixed_size_list(column.type) else [0]
    if column.null_count or len(widths) > 1:
        raise UserError(f"{file}: the column {name} holds lists of several lengths, or none; expected D numbers each")
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in NUMBERS:
        raise UserError(f"{file}: the column {name} holds {column.type}; expected lists of numbers")
    embeddings = numbers.reshape(len(table), -1) if len(table) else numbers.reshape(0, 1)
    return embeddings, table.drop_columns([name]), (source.schema.metadata or {}).get(INFO)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _read_npz(file: Path) -> tuple[np.ndarray, pa.Table, bytes | None]:
    arrays = read_arrays(file, NUMBERS + TEXT)
    name = _vector_column(file, [name for name, array in arrays.items() if array.ndim == 2], list(arrays))
    embeddings = arrays.pop(name)
    if wrong := [name for name, array in arrays.items() if array.shape != (len(embeddings),)]:
        raise UserError(
            f"{file}: the array {wrong[0]} has the shape {arrays[wrong[0]].shape}; expected one value for each of the "
            f"{len(embeddings)} embeddings"
        )
    return embeddings, pa.table({name: _known(array) for name, array in arrays.items()}), None


def _known(array: np.ndarray) -> pa.Array:
    """Return a column; empty text and NaN are unknown."""
    if array.dtype.kind in TEXT:
        return pa.array(array, mask=array == "")
    return pa.array(array, mask=np.isnan(array) if array.dtype.kind == "f" else None)


def _read_csv(file: Path) -> tuple[np.ndarray, pa.Table, bytes | None]:
    with open_regular(file) as stream:
        try:
            header = stream.readline().decode("utf-8-sig")
            names = next(csv.reader([header]), [])
            stream.seek(0)
            numbered = [name for name in names if _NUMBERED.fullmatch(name)]
            kinds = {name: pa.float32() if name in numbered else pa.string() for name in names}
            options = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
            table = pyarrow.csv.read_csv(stream, convert_options=options)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise UserError(f"{file} is no CSV file in UTF-8 of embeddings ({error}); write it again") from error
    if not numbered:
        raise UserError(f"{file}: no columns e0, e1, … with the embedding; found {', '.join(names[:8])}")
    numbered.sort(key=lambda name: int(name[1:]))
    embeddings = np.stack([table[name].to_numpy() for name in numbered], axis=1)
    return embeddings, table.drop_columns(numbered), None


def _vector_column(file: Path, fitting: list[str], names: list[str]) -> str:
    found = [name for name in VECTORS if name in fitting]
    if len(found) != 1:
        what = f"{' and '.join(found)} both hold embeddings; keep one" if found else f"none is {' or '.join(VECTORS)}"
        raise UserError(f"{file}: of {', '.join(names[:12]) or 'no columns'}, {what}, with D numbers per row")
    return found[0]


READERS: dict[str, Callable[[Path], tuple[np.ndarray, pa.Table, bytes | None]]] = {
    ".parquet": _read_parquet,
    ".npz": _read_npz,
    ".csv": _read_csv,
}
