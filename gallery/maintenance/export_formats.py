"""Convert the live rows of a gallery to one file, for other programs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...common.errors import UserError
from ...common.files import check_output_file, write_atomically
from ...common.text import csv_cell
from ..search.faiss_index import import_faiss
from ..storage.gallery import Gallery
from .merge_compact import live_records, live_rows, placed

INFO = b"vitreid.gallery"  # key of the gallery's description in a Parquet file's metadata


def export_as(gallery: Gallery, path: str | Path, format: str) -> Path:
    """Write the live rows and their records in one of FORMATS; return the file.

    Relative paths start at the file's folder. int8 galleries are written as float32. With "npz", "mat" and "faiss" the gallery must fit in memory.

    Args:
        path: the file; an existing one is replaced.
    Raises:
        ValueError: the format is unknown, or the gallery does not fit it.
        OSError: the file cannot be written; an earlier one is intact.
        ModuleNotFoundError: faiss is not installed.
    """
    if format not in FORMATS:
        raise UserError(f"format: unknown format {format!r}; choose from {', '.join(sorted(FORMATS))}")
    check_columns(gallery.columns, format)
    path = check_output_file("path", path)
    write = FORMATS[format]
    write_atomically(path, lambda temporary: write(gallery, temporary))
    return path


def check_columns(columns: Iterable[str], format: str) -> None:
    """Raise ValueError, naming column and format, if the format cannot hold a column of that name."""
    taken = TAKEN.get(format, ())
    for name in columns:
        if name in taken:
            raise UserError(
                f"records: the format {format} uses the name {name!r} itself; rename the column, or choose the format csv"
            )
        if format == "mat" and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", name):
            raise UserError(
                f"records: the format mat has no place for a column {name!r}: MATLAB's names are up to 31 letters, digits "
                "and underscores, a letter first; rename the column, or choose the format csv"
            )


def _parts(gallery: Gallery, folder: Path) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Yield live rows (n, D) float32 with their records, in blocks."""
    start, positions = 0, np.flatnonzero(gallery.is_live)
    for records in live_records(gallery):
        stop = start + len(records)
        yield gallery.vectors(positions[start:stop]), placed(records, gallery.path, folder)
        start = stop


def _rows(gallery: Gallery) -> np.ndarray:
    """Return all live rows (n, D), float16 if stored so, else float32."""
    rows = np.concatenate([np.empty((0, gallery.info.dimension), gallery.info.dtype), *live_rows(gallery)])
    return gallery.info.decode(rows) if gallery.info.scale is not None else rows


def _columns(gallery: Gallery, folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of the live records as arrays; missing text becomes empty, missing numbers NaN."""
    records = placed(pa.concat_tables(list(live_records(gallery))), gallery.path, folder)
    return {name: _as_array(records[name]) for name in records.column_names}


def _as_array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_integer(column.type) and column.null_count:
        column = column.cast(pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.to_numpy()
    values = column.to_pylist()
    return np.array(["" if value is None else str(value) for value in values], str) if values else np.array([], "U1")


def _write_npz(gallery: Gallery, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, embeddings=_rows(gallery), **_columns(gallery, path.parent))  # type: ignore[arg-type]


def _write_mat(gallery: Gallery, path: Path) -> None:
    from scipy.io import savemat  # 0.1 s and 20 MB to import

    columns = {
        name: values.astype(object) if values.dtype.kind == "U" else values
        for name, values in _columns(gallery, path.parent).items()
    }
    rows = _rows(gallery).astype(np.float32)
    if rows.nbytes >= 2**31:
        raise UserError(
            f"a .mat file holds up to 2 GiB per array, this takes {rows.nbytes / 2**30:.1f}; use another format"
        )
    with path.open("wb") as file:
        savemat(file, {"embeddings": rows, **columns}, do_compression=True, oned_as="column")


def _write_parquet(gallery: Gallery, path: Path) -> None:
    """Write the records with another column, `embedding`: a list of D float32; INFO in the metadata has what made them."""
    kind = pa.list_(pa.float32(), gallery.info.dimension)
    about = json.dumps(gallery.info.to_dict())
    writer = None
    for rows, records in _parts(gallery, path.parent):
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind)
        table = records.append_column("embedding", values).replace_schema_metadata({INFO: about})
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None  # for the type checker: there is one part at least
    writer.close()


def _write_csv(gallery: Gallery, path: Path) -> None:
    """Write the records' columns, then e0, e1, …; floats with all digits; no formulas, see `csv_cell`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*map(csv_cell, gallery.columns), *(f"e{i}" for i in range(gallery.info.dimension))])
        for rows, records in _parts(gallery, path.parent):
            texts = (map(str, row) for row in rows)
            for record, numbers in zip(records.to_pylist(), texts, strict=True):
                writer.writerow([*map(csv_cell, record.values()), *numbers])


def _write_faiss(gallery: Gallery, path: Path) -> None:
    """Write a flat index by id: squared Euclidean distance, or, for "cosine", inner product of unit-length rows."""
    faiss = import_faiss("format faiss", "or choose another format")
    is_cosine = gallery.info.metric == "cosine"
    flat = (faiss.IndexFlatIP if is_cosine else faiss.IndexFlatL2)(gallery.info.dimension)
    index = faiss.IndexIDMap2(flat)
    for rows, records in _parts(gallery, path.parent):
        if is_cosine:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        index.add_with_ids(rows, records["id"].to_numpy())
    faiss.write_index(index, str(path))


FORMATS: dict[str, Callable[[Gallery, Path], None]] = {
    "npz": _write_npz,
    "parquet": _write_parquet,
    "csv": _write_csv,
    "faiss": _write_faiss,
    "mat": _write_mat,
}
TAKEN = {  # column names that a format reserves
    "npz": ("embeddings", "file", "allow_pickle"),  # the latter two are arguments of numpy.savez
    "parquet": ("embedding",),
    "mat": ("embeddings",),
}
