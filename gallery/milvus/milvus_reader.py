"""Read the rows of a gallery in Milvus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..search.filters import Where
from ..storage import records_file
from ..storage.metadata import GalleryInfo
from ..storage.row_ids import Ids, as_ids
from . import milvus_collections
from .absent_values import NULL, restored
from .filter_expression import as_expression

BATCH = 1000  # rows per request


class MilvusReader:
    """What can be read of a gallery in Milvus, with the names of `GalleryReader`.

    Attributes:
        client, path, name: connection, address, and name of the gallery there.
        about: its metadata.
    """

    client: Any
    path: str
    name: str
    about: dict[str, Any]
    _info: GalleryInfo

    @property
    def info(self) -> GalleryInfo:
        """Origin of the embeddings and how they are compared."""
        return self._info

    @property
    def _about_name(self) -> str:
        return f"{self.name}_about"

    @property
    def _rows_name(self) -> str:
        return self.about.get("rows", self.name)

    @property
    def _absent(self) -> str:
        return self.about.get("absent", NULL)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the records and their types."""
        return milvus_collections.unpack(self.about["schema"])

    @property
    def columns(self) -> list[str]:
        """Names of the records' columns."""
        return list(self.schema.names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return milvus_collections.count(self.client, self._rows_name)

    @property
    def ids(self) -> np.ndarray:
        """(N,) int64 ids, ascending."""
        return np.array([row["id"] for row in self._rows(["id"])], np.int64)

    @property
    def is_live(self) -> np.ndarray:
        """(N,) bool, all True: removed rows are deleted."""
        return np.ones(len(self), bool)

    @property
    def embeddings(self) -> np.ndarray:
        """(N, D) float32 in the order of the ids; fetches all of them."""
        return self.all_rows(["id", "vector"])[1]

    @property
    def records(self) -> pa.Table:
        """The records in the order of the ids; fetches all of them."""
        return self.all_rows(["*"])[0]

    def all_rows(self, fields: list[str]) -> tuple[pa.Table, np.ndarray]:
        """Return some fields of the records ("*" = all) and the float32 embeddings (N, D), in the order of the ids."""
        rows = self._rows(fields)
        vectors = np.array([row.pop("vector") for row in rows], np.float32).reshape(-1, self.info.dimension)
        return pa.Table.from_pylist(rows, self.schema), vectors

    def find_rows(self, where: Where, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Return some fields of the rows that fulfil typed conditions, in the order of the ids."""
        return self._rows(list(fields), as_expression(where, self._absent))

    def _rows(self, fields: list[str], expression: str = "") -> list[dict[str, Any]]:
        """Return some fields ("*" = all, including `vector`) of all rows, or of those of an expression, in the order of the ids."""
        found, rows = (
            self.client.query_iterator(self._rows_name, filter=expression, batch_size=BATCH, output_fields=fields),
            [],
        )
        while batch := found.next():
            rows += [restored(dict(row), self._absent) for row in batch]
        found.close()
        return sorted(rows, key=lambda row: row["id"])

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of the records, in the order of the ids; fetches no others; errors as `RecordsFile.check`."""
        records_file.check_columns(columns, self.schema)
        rows = self._rows(list(dict.fromkeys(["id", *columns])))
        schema = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema)

    def positions(self, ids: Ids) -> np.ndarray:
        """Return the positions of these ids in `ids`, `embeddings` and `records`; raise KeyError if one is missing."""
        self._get(ids, ["id"])
        return np.searchsorted(self.ids, as_ids(ids))

    def rows_at(self, positions: Ids) -> list[dict[str, Any]]:
        """Return the records at some positions, each as a dictionary."""
        return self.rows_of(self.ids[as_ids(positions, "positions")])

    def rows_of(self, ids: Ids) -> list[dict[str, Any]]:
        """Return the records with these ids, each as a dictionary; raise KeyError if one is missing."""
        rows = self._get(ids, ["*"])
        return [{name: row.get(name) for name in self.columns} for row in rows]

    def vectors(self, positions: Ids) -> np.ndarray:
        """Return the float32 embeddings (n, D) at some positions."""
        return self.vectors_of(self.ids[as_ids(positions, "positions")])

    def vectors_of(self, ids: Ids) -> np.ndarray:
        """Return the float32 embeddings (n, D) of the rows with these ids; raise KeyError if one is missing."""
        rows = self._get(ids, ["vector"])
        return np.array([row["vector"] for row in rows], np.float32).reshape(-1, self.info.dimension)

    def image_path(self, path: str) -> Path:
        """Return the location of a record's image: relative paths start at the folder where the gallery was made or imported from."""
        return Path(self.about["root"]) / path

    def _get(self, ids: Ids, fields: list[str]) -> list[dict[str, Any]]:
        """Return fields of the rows with these ids, in that order; raise KeyError if one is missing."""
        wanted = as_ids(ids).tolist()
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(wanted), BATCH):
            part = self.client.get(self._rows_name, ids=wanted[start : start + BATCH], output_fields=fields)
            found |= {row["id"]: restored(dict(row), self._absent) for row in part}
        if missing := [number for number in wanted if number not in found]:
            raise KeyError(f"id {missing[0]} is not in {self.path} (or was removed)")
        return [found[number] for number in wanted]
