"""The collections that a Milvus gallery is made of: found, made, and dropped when they are nobody's any more."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...common.errors import MissingPackageError, UserError
from ..storage import records_file as table
from ..storage.metadata import GalleryInfo

PREFIX, COLLECTION = "milvus:", "gallery"
METRICS = {"euclidean": "L2", "cosine": "COSINE"}
INDEXES = {  # name -> how it is built, and how hard it looks
    "FLAT": ({}, {}),
    "IVF_FLAT": ({"nlist": 1024}, {"nprobe": 32}),
    "HNSW": ({"M": 32, "efConstruction": 200}, {"ef": 256}),
    "DISKANN": ({}, {"search_list": 256}),
    "AUTOINDEX": ({}, {}),
}
TEXT = 65_535  # longest text, bytes


def connect(path: str, create: bool = False) -> tuple[Any, str]:
    """Return a client of the Milvus that `path` names, and the gallery's name there. MILVUS_TOKEN is sent to a server.

    Raises:
        ImportError: pymilvus, or for a file milvus-lite, is not installed.
        FileNotFoundError: the file is not there, and not to be made.
        OSError: the server does not answer, or the file is in use.
    """
    uri, _, name = path.removeprefix(PREFIX).partition("#")
    is_server = "://" in uri
    if not is_server and not uri.endswith(".db"):
        raise UserError(f"gallery: {path} is neither milvus:FILE.db nor milvus:http://HOST:PORT")
    if not is_server and not create and not Path(uri).exists():
        raise FileNotFoundError(f"{uri}: no such file, so there is no gallery; make one with MilvusGallery.create")
    try:
        from pymilvus import MilvusClient, MilvusException

        if not is_server:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f'{path} needs pymilvus and, for a file, milvus-lite: pip install "vitreid[milvus]"'
        ) from error
    try:
        return MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", "") if is_server else ""), name or COLLECTION
    except MilvusException as error:
        raise OSError(
            f"cannot open {path}: {error}; is the server running, or the file in use by another process?"
        ) from error


def check_types(schema: pa.Schema) -> None:
    """Raise ValueError if Milvus cannot keep, or cannot filter by, a column; names it."""
    for item in schema:
        kind = item.type
        plain = (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_string,
            pa.types.is_large_string,
        )
        if not any(is_it(kind) for is_it in plain) and not pa.types.is_null(kind):
            raise UserError(f"Milvus: column {item.name!r} holds {kind}; make it text or numbers, or leave it out")
        if not item.name.isidentifier() or item.name == "vector":
            raise UserError(
                f"Milvus: a column cannot be called {item.name!r}; use letters, digits and _, and not 'vector'"
            )


def live_rows(client: Any, path: str, name: str) -> str | None:
    """Return the collection of the gallery's rows, None if there is no such gallery.

    Raises:
        FileExistsError: what goes by that name is the unfinished copy of another gallery.
    """
    about = about_of(client, f"{name}_about")
    if about is None:
        return None
    rows = str(about.get("rows", name))
    if rows not in (name, f"{name}_rows"):
        raise FileExistsError(
            f"{path}: {name!r} is what was left by a killed import of another gallery; choose another #NAME"
        )
    return rows


def about_of(client: Any, collection: str) -> dict[str, Any] | None:
    """Return what a gallery says about itself; None if the collection is not there, empty or another's."""
    found = client.get(collection, ids=[0]) if client.has_collection(collection) else []
    return json.loads(found[0]["text"]) if found and "text" in found[0] else None


def count(client: Any, collection: str) -> int:
    """Return the number of rows of a collection."""
    return int(client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"])


def clear(client: Any, path: str, name: str, rows: str) -> None:
    """Drop the collection where a `build` puts its rows, if an earlier build of the gallery has said that it is its own.

    Raises:
        FileExistsError: another gallery has a name that is needed, or a collection that is no gallery's has it.
    """
    own, about, draft = (name, f"{name}_rows"), f"{name}_about", f"{name}_draft_about"
    taken = [needed for needed in (rows, about, draft) if needed != name and client.has_collection(f"{needed}_about")]
    live, unfinished = (about_of(client, collection) or {} for collection in (about, draft))
    if unfinished and unfinished.get("rows") not in own:
        taken.append(f"{name}_draft")
    if taken:
        raise FileExistsError(
            f"{path}: the name {taken[0]!r} is needed meanwhile, but a gallery has it; choose another #NAME"
        )
    is_own = rows in (live.get("earlier"), unfinished.get("rows"))
    strange = [rows] if client.has_collection(rows) and not is_own else []
    for needed, said in ((about, live), (draft, unfinished)):
        strange += [needed] if not said and client.has_collection(needed) and count(client, needed) else []
    if strange:
        raise FileExistsError(
            f"{path}: the collection {strange[0]!r} is needed, but is no gallery and may be another program's; "
            "choose another #NAME, or drop it yourself"
        )
    drop(client, rows, draft)


def drop(client: Any, *collections: str) -> None:
    """Drop those of the collections that are there."""
    for collection in collections:
        if client.has_collection(collection):
            client.drop_collection(collection)


def make_empty(client: Any, rows: str, about_name: str, info: GalleryInfo, index: str) -> None:
    """Make both collections of a gallery; that of the rows last, so that there is always one which says whose they are."""
    about = {"info": info.to_dict(), "index": index, "next_id": 0, "root": os.getcwd(), "schema": pack(table.CORE)}
    write_about(client, about_name, about | {"rows": rows})
    make_rows(client, rows, info, index)


def write_about(client: Any, name: str, about: dict[str, Any]) -> None:
    """Write what a gallery says about itself, in one step if the collection is there."""
    if not client.has_collection(name):
        _make_about(client, name)
    client.upsert(name, [about_row(about)])


def make_rows(client: Any, name: str, info: GalleryInfo, index: str) -> None:
    """Make an empty collection for a gallery's rows."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=info.dimension)
    for item in table.CORE:
        if pa.types.is_string(item.type):
            schema.add_field(item.name, DataType.VARCHAR, max_length=4096, nullable=item.name != "path")
    schema.add_field("time", DataType.DOUBLE, nullable=True)
    indexes = client.prepare_index_params()
    options = {"metric_type": METRICS[info.metric], "params": dict(INDEXES[index][0])}
    indexes.add_index("vector", index_type=index, **options)
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def _make_about(client: Any, name: str) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # Milvus wants one in each collection
    schema.add_field("text", DataType.VARCHAR, max_length=TEXT)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def about_row(about: dict[str, Any]) -> dict[str, Any]:
    """Return what a gallery says about itself as the one row of its collection; raise ValueError if it is too long."""
    text = json.dumps(about)
    if len(text.encode()) > TEXT:
        raise UserError(f"Milvus: what the gallery says about itself takes {len(text.encode())} bytes, {TEXT} at most")
    return {"id": 0, "vector": [0.0, 0.0], "text": text}


def pack(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def unpack(text: str) -> pa.Schema:
    """Return the schema that `pack` made text of."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
