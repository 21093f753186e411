"""The person of each row: columns of the records, and a file next to them that outlives a new export of the same images."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.parquet_file import ParquetInput
from ..keeping.row_keys import KEY_BYTES, digest_of
from ..storage.file_names import IDENTITIES
from ..storage.gallery import Gallery
from ..storage.row_ids import Ids

PERSON, FIT, CONFIRMED = "person", "person_fit", "person_confirmed"
KEY = ("path", "frame", "x", "y", "width", "height")  # what makes a row the same in another export
NAME_LETTERS = 10
REMEDY = "restore it, or delete it: the records keep their people"
SCHEMA = pa.schema({"key": pa.binary(KEY_BYTES), "path": pa.string(), PERSON: pa.string(), CONFIRMED: pa.bool_()})


@dataclass(frozen=True, eq=False)
class People:
    """The person of each live row of a gallery.

    Args:
        ids: (N,) of the rows, ascending.
        keys: (N,) bytes that name the row's image, the same in another export.
        paths: (N,) of the images.
        names: (N,) person, None = not known.
        confirmed: (N,) bool: somebody has said so.
        fit: (N,) silhouette of the row in its group, -1 to 1; NaN = alone or not known.
    """

    ids: np.ndarray
    keys: np.ndarray
    paths: list[str]
    names: np.ndarray
    confirmed: np.ndarray
    fit: np.ndarray


def read_people(gallery: Gallery) -> People:
    """Return the people of the live rows: of the columns; where they are empty, of the file, by the rows' keys.

    Raises:
        UserError: the records have a column `person` of another origin, or the file is damaged.
    """
    check_columns(gallery)
    has_people = PERSON in gallery.columns
    columns = [name for name in ("id", *KEY, PERSON, CONFIRMED, FIT) if name in gallery.columns]
    table = gallery.select(columns).filter(pa.array(gallery.is_live))
    keys = row_keys(table)
    names = np.array(table[PERSON].to_pylist(), object) if has_people else np.full(len(table), None, object)
    confirmed = (
        np.array(table[CONFIRMED].fill_null(False).to_pylist(), bool) if has_people else np.zeros(len(table), bool)
    )
    fit = table[FIT].to_numpy() if FIT in columns else np.full(len(table), np.nan)
    people = People(table["id"].to_numpy(), keys, table["path"].to_pylist(), names, confirmed, fit)
    return _completed(people, _read_file(gallery.path / IDENTITIES))


def is_none(names: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the names (n,) that are missing."""
    return np.array([name is None for name in names.tolist()], bool)


def check_columns(gallery: Gallery) -> None:
    """Raise UserError if the column `person` was not written by `write_people`; it would be replaced."""
    schema = gallery.schema
    if PERSON in schema.names and (CONFIRMED not in schema.names or not pa.types.is_string(schema.field(PERSON).type)):
        raise UserError(
            f"{gallery.path}: the records have another column {PERSON!r}, which the groups would replace; rename it in "
            "the source and export again"
        )


def row_keys(table: pa.Table) -> np.ndarray:
    """Return (N,) keys of KEY_BYTES of the rows: path, frame and box, as far as the table has them."""
    names = [name for name in KEY if name in table.column_names]
    columns = zip(*(table[name].to_pylist() for name in names), strict=True)
    texts = ("\0".join("" if value is None else str(value) for value in values) for values in columns)
    found = [digest_of(text) for text in texts]
    keys = np.empty(len(found), object)
    keys[:] = found
    return keys


def new_name(key: bytes, taken: set[str]) -> str:
    """Return the name of a person first seen in the row with this key; the same in each run, and in no other gallery.

    >>> new_name(b"0123456789abcdef", set()), new_name(b"0123456789abcdef", {"pgaytemzugu"})
    ('pgaytemzugu', 'pwaiiiie7qj')
    """
    while True:
        name = "p" + base64.b32encode(key).decode().lower()[:NAME_LETTERS]
        if name not in taken:
            return name
        key = digest_of(key)


def write_people(gallery: Gallery, before: People, after: People) -> int:
    """Write the people of rows that `read_people` returned; return how many rows have another person than `before`.

    Rows whose person another process has changed since keep that one. The columns are written first, then the file: after a
    crash the columns are whole, of one state or the other, and the next call writes the file.

    Args:
        before: as read.
        after: the same rows.
    """
    with gallery.writing():
        now = read_people(gallery)
        place = np.searchsorted(now.ids, before.ids)
        place[place == len(now.ids)] = 0
        there = now.ids[place] == before.ids if len(now.ids) else np.zeros(len(before.ids), bool)
        same = there.copy()
        same[there] &= now.names[place[there]] == before.names[there]
        same[there] &= now.confirmed[place[there]] == before.confirmed[there]
        values: Mapping[str, Any] = {
            PERSON: pa.array(after.names[same].tolist(), pa.string()),
            FIT: pa.array(after.fit[same], pa.float64(), from_pandas=True),
            CONFIRMED: pa.array(after.confirmed[same], pa.bool_()),
        }
        gallery.set_values(before.ids[same], values)
        names, confirmed = now.names.copy(), now.confirmed.copy()
        names[place[same]], confirmed[place[same]] = after.names[same], after.confirmed[same]
        _write_file(gallery.path / IDENTITIES, replace(now, names=names, confirmed=confirmed))
    return int(((after.names != before.names) | (after.confirmed != before.confirmed))[same].sum())


def confirm(gallery: Gallery, ids: Ids, person: str | None) -> int:
    """Settle who some rows show: later groupings keep it, and never join rows of two confirmed people. Return how many changed.

    Args:
        ids: of the rows.
        person: name, new or of a person there is; None = open again.
    Raises:
        UserError: the name is empty, or an id is not in the gallery.
    """
    if person is not None and not person.strip():
        raise UserError("confirm: a person needs a name; None opens the rows again")
    with gallery.writing():
        before = read_people(gallery)
        rows = np.isin(before.ids, gallery.ids[gallery.positions(ids)])
        names, confirmed = before.names.copy(), before.confirmed.copy()
        names[rows] = before.names[rows] if person is None else person
        confirmed[rows] = person is not None
        return write_people(gallery, before, replace(before, names=names, confirmed=confirmed))


def _completed(people: People, known: Mapping[bytes, tuple[str, bool]]) -> People:
    """Return the people with those of the file where the columns are empty."""
    if not known:
        return people
    names, confirmed = people.names.copy(), people.confirmed.copy()
    for place in np.flatnonzero(is_none(names)):
        if found := known.get(people.keys[place]):
            names[place], confirmed[place] = found
    return replace(people, names=names, confirmed=confirmed)


def _read_file(path: Path) -> dict[bytes, tuple[str, bool]]:
    """Return key -> (person, confirmed) of the file; empty if there is none."""
    try:
        table = ParquetInput(path, REMEDY).read(columns=SCHEMA.names)
    except FileNotFoundError:
        return {}
    if table.schema.remove_metadata() != SCHEMA:
        raise UserError(f"{path} holds other columns than {', '.join(SCHEMA.names)}; {REMEDY}")
    table = table.drop_columns("path")
    columns = (table[name].to_pylist() for name in table.column_names)
    return {key: (name, confirmed) for key, name, confirmed in zip(*columns, strict=True) if name is not None}


def _write_file(path: Path, people: People) -> None:
    known = np.flatnonzero(~is_none(people.names))
    columns = [
        pa.array([people.keys[place] for place in known], SCHEMA.field("key").type),
        pa.array([people.paths[place] for place in known], pa.string()),
        pa.array(people.names[known].tolist(), pa.string()),
        pa.array(people.confirmed[known], pa.bool_()),
    ]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
