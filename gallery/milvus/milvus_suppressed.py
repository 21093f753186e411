"""{name}_suppressed: the collection of the keys of removed rows, which no addition and no import brings back.

The list belongs to the name of the gallery, so it outlives the replacement of its rows. It is made with its first entry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ..keeping.row_keys import are_in, as_keys, key_columns, keys_of
from ..keeping.suppress_list import KEPT_OUT, SCHEMA, empty_list, entries, joined, keys_in
from ..search.filters import Condition, Where
from . import milvus_collections
from .milvus_reader import BATCH, MilvusReader

logger = logging.getLogger(__name__)

FIELDS = {"key", "vector", "time", "reason"}


class SuppressedKeys:
    """The list of one gallery in Milvus.

    Args:
        client: as `milvus_collections.connect` returned it.
        path: of the gallery.
    """

    def __init__(self, client: Any, path: str) -> None:
        self._client, self._path = client, path
        self._collection = f"{milvus_collections.name_in(path)}{milvus_collections.LIST}"

    def read(self) -> pa.Table:
        """Return the entries (N,): key, time in seconds since 1970, reason; the earliest first."""
        if not self._is_there():
            return empty_list()
        found = self._client.query_iterator(
            self._collection, filter="", batch_size=BATCH, output_fields=["key", "time", "reason"]
        )
        rows: list[dict[str, Any]] = []
        while batch := found.next():
            rows += batch
        found.close()
        rows.sort(key=lambda row: (row["time"], row["key"]))
        keys = as_keys(bytes.fromhex("".join(row["key"] for row in rows)))
        columns = [
            keys,
            *(pa.array([row[name] for row in rows], SCHEMA.field(name).type) for name in ("time", "reason")),
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMA)

    def add(self, keys: pa.Array, reason: str) -> None:
        """Add the entries of some keys (n,) that are not there yet."""
        before = self.read()
        self._insert(joined(before, entries(keys, reason)).slice(len(before)))

    def write(self, listed: pa.Table) -> None:
        """Replace the list: new entries are added before others go, so none that stays is ever absent."""
        before = self.read()
        self._insert(joined(before, listed).slice(len(before)))
        gone = keys_in(before).filter(pa.array(~are_in(keys_in(before), keys_in(listed))))
        names = [key.hex() for key in gone.to_pylist()]
        for start in range(0, len(names), BATCH):
            self._client.delete(self._collection, ids=names[start : start + BATCH])

    def _insert(self, new: pa.Table) -> None:
        """Add entries of keys that are not there; the first make the collection."""
        rows = [{**row, "key": row["key"].hex(), "vector": [0.0, 0.0]} for row in new.to_pylist()]
        if rows and not self._is_there():
            self._make()
        for start in range(0, len(rows), BATCH):
            self._client.upsert(self._collection, rows[start : start + BATCH])

    def admitted(self, records: pa.Table, folder: Path) -> np.ndarray:
        """Return (n,) bool: False for records of rows that were removed earlier, which are logged; `folder` as for `keys_of`."""
        listed = self.read()
        if not len(listed):
            return np.ones(len(records), bool)
        kept = ~are_in(keys_of(records, folder), keys_in(listed))
        if not kept.all():
            logger.warning(KEPT_OUT, self._path, int((~kept).sum()), len(kept))
        return kept

    def _is_there(self) -> bool:
        """Return whether there is a list.

        Raises:
            UserError: the collection of this name is another program's.
        """
        if not self._client.has_collection(self._collection):
            return False
        fields = {field["name"] for field in self._client.describe_collection(self._collection)["fields"]}
        if fields != FIELDS:
            raise UserError(
                f"{self._path}: the collection {self._collection!r} is needed for the list of removed rows, but has the fields "
                f"{', '.join(sorted(fields))}; choose another #NAME, or drop it yourself"
            )
        return True

    def _make(self) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # Milvus requires one in each collection
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("reason", DataType.VARCHAR, max_length=64)
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="L2")
        self._client.create_collection(
            self._collection, schema=schema, index_params=indexes, consistency_level="Strong"
        )


def lost_keys(gallery: MilvusReader, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    """Return the keys of rows, with `id` and `path`, that are to be removed, but for keys that other rows of these paths have, too."""
    names, removed, root = ["id", *key_columns(gallery.columns)], {row["id"] for row in rows}, gallery.image_path(".")
    paths = list(dict.fromkeys(row["path"] for row in rows))
    found: list[dict[str, Any]] = []
    for start in range(0, len(paths), BATCH):
        some = Condition("path", "=", tuple(paths[start : start + BATCH]))
        found += gallery.find_rows(Where((some,)), names)
    schema = pa.schema([gallery.schema.field(name) for name in names])
    gone, others = (
        keys_of(pa.Table.from_pylist([row for row in found if (row["id"] in removed) == is_gone], schema), root)
        for is_gone in (True, False)
    )
    return gone.filter(pa.array(~are_in(gone, others)))
