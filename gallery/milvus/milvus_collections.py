"""The collections of a Milvus gallery: connect, find, make and drop them."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...common.errors import MissingPackageError, UserError
from ..storage.metadata import GalleryInfo
from ..storage.records_file import CORE, is_plain
from .absent_values import EMPTY, NULL, form_for
from .milvus_client import CheckedClient, failed

PREFIX, COLLECTION = "milvus:", "gallery"
METRICS = {"euclidean": "L2", "cosine": "COSINE"}
INDEXES = {  # name -> parameters of the index, parameters of a search
    "FLAT": ({}, {}),
    "IVF_FLAT": ({"nlist": 1024}, {"nprobe": 32}),
    "HNSW": ({"M": 32, "efConstruction": 200}, {"ef": 256}),
    "DISKANN": ({}, {"search_list": 256}),
    "AUTOINDEX": ({}, {}),
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = ("and", "exists", "false", "in", "is", "like", "not", "null", "or", "true", "vector")  # in capitals, too
TEXT = 65_535  # bytes of the longest text
LIST = "_suppressed"  # end of the name of the collection with the keys of removed rows


def name_in(path: str) -> str:
    """Return the name of the gallery in a path.

    >>> name_in("milvus:day.db"), name_in("milvus:http://host:19530#day1")
    ('gallery', 'day1')
    """
    return path.partition("#")[2] or COLLECTION


def connect(path: str, create: bool = False) -> tuple[Any, str]:
    """Return a client of the Milvus in `path`, and the gallery's name there. A server receives MILVUS_TOKEN.

    Raises:
        ImportError: pymilvus, or for a file milvus-lite, is not installed.
        FileNotFoundError: the file is missing and `create` is false.
        OSError: the server does not answer, or the file is in use; PermissionError: it wants a token, or another one.
    """
    uri, name = path.removeprefix(PREFIX).partition("#")[0], name_in(path)
    is_server = "://" in uri
    if not is_server and not uri.endswith(".db"):
        raise UserError(f"gallery: {path} is neither milvus:FILE.db nor milvus:http://HOST:PORT")
    if not is_server and not create and not Path(uri).exists():
        raise FileNotFoundError(f"{uri}: no such file, so there is no gallery; make one with MilvusGallery.create")
    if is_server and "@" in uri.rpartition("://")[2]:
        raise UserError(
            "gallery: the address holds a password, which would be written into logs; set MILVUS_TOKEN to user:password"
        )
    try:
        from grpc import RpcError
        from pymilvus import MilvusClient, MilvusException

        if not is_server:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f'{path} needs pymilvus and, for a file, milvus-lite: pip install "vitreid[milvus]"'
        ) from error
    if (log := logging.getLogger("pymilvus")).level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)  # it prints tracebacks of the errors that are raised here
    try:
        client = MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", "") if is_server else "")
    except (MilvusException, RpcError) as error:
        if isinstance(refused := failed(path, "open", error), PermissionError):
            raise refused from error
        raise OSError(
            f"cannot open {path}: {error}; is the server running, or the file in use by another process?"
        ) from error
    checked = CheckedClient(client, path, (MilvusException, RpcError))
    if not is_server:
        _load(checked, name)
    return checked, name


def _load(client: Any, name: str) -> None:
    """Load the collections that may be a gallery's: Milvus Lite 3 opens a file without loading them."""
    for suffix in ("", "_about", "_rows", "_rows_about", "_draft_about", LIST):  # those that are read here
        if client.has_collection(f"{name}{suffix}"):
            client.load_collection(f"{name}{suffix}")


def check_types(schema: pa.Schema) -> None:
    """Raise ValueError, naming the column, if Milvus cannot store it or filter by it."""
    for item in schema:
        kind = item.type
        if not is_plain(kind):
            raise UserError(f"Milvus: column {item.name!r} holds {kind}; make it text or numbers, or leave it out")
        if not NAME.fullmatch(item.name) or item.name.lower() in RESERVED:
            raise UserError(
                f"Milvus: a column cannot be called {item.name!r}; rename it: letters of English, digits and _, and no word of Milvus' "
                f"filters ({', '.join(RESERVED)})"
            )


def live_rows(client: Any, path: str, name: str) -> str | None:
    """Return the collection with the gallery's rows, None if there is no such gallery.

    Raises:
        FileExistsError: the name belongs to the unfinished copy of another gallery.
    """
    about = about_of(client, f"{name}_about")
    if about is None:
        return None
    rows = str(about.get("rows", name))
    if rows not in (name, f"{name}_rows"):
        raise FileExistsError(
            f"{path}: {name!r} is the remainder of a killed import of another gallery; choose another #NAME"
        )
    return rows


def about_of(client: Any, collection: str) -> dict[str, Any] | None:
    """Return a gallery's metadata; None if the collection is missing, empty, or belongs to another program."""
    found = client.get(collection, ids=[0]) if client.has_collection(collection) else []
    return json.loads(found[0]["text"]) if found and "text" in found[0] else None


def count(client: Any, collection: str) -> int:
    """Return the number of rows of a collection."""
    return int(client.query(collection, filter="", output_fields=["count(*)"])[0]["count(*)"])


def clear(client: Any, path: str, name: str, rows: str) -> None:
    """Drop the collection for the rows of a new `build`, if the metadata of an earlier build names it.

    Raises:
        FileExistsError: another gallery, or a collection of another program, has a needed name.
    """
    own, about, draft = (name, f"{name}_rows"), f"{name}_about", f"{name}_draft_about"
    taken = [needed for needed in (rows, about, draft) if needed != name and client.has_collection(f"{needed}_about")]
    live, unfinished = (about_of(client, collection) or {} for collection in (about, draft))
    if unfinished and unfinished.get("rows") not in own:
        taken.append(f"{name}_draft")
    if taken:
        raise FileExistsError(
            f"{path}: the name {taken[0]!r} is needed for the import, but a gallery has it; choose another #NAME"
        )
    is_own = rows in (live.get("earlier"), unfinished.get("rows"))
    foreign = [rows] if client.has_collection(rows) and not is_own else []
    for needed, said in ((about, live), (draft, unfinished)):
        foreign += [needed] if not said and client.has_collection(needed) and count(client, needed) else []
    if foreign:
        raise FileExistsError(
            f"{path}: the collection {foreign[0]!r} is needed, but is no gallery and may be another program's; "
            "choose another #NAME, or drop it yourself"
        )
    drop(client, rows, draft)


def drop(client: Any, *collections: str) -> None:
    """Drop the collections that exist."""
    for collection in collections:
        if client.has_collection(collection):
            client.drop_collection(collection)


def make_empty(client: Any, rows: str, about_name: str, info: GalleryInfo, index: str) -> None:
    """Make both collections of a gallery; the rows come last, so that metadata always names their owner."""
    try:
        form = form_for(client.get_server_version())
    except OSError:
        form = EMPTY  # Milvus Lite before 3 does not answer this, and has no null
    about = {"info": info.to_dict(), "index": index, "next_id": 0, "root": os.getcwd(), "schema": pack(CORE)}
    write_about(client, about_name, about | {"rows": rows, "absent": form})
    make_rows(client, rows, info, index, form)


def write_about(client: Any, name: str, about: dict[str, Any]) -> None:
    """Write a gallery's metadata, in one step if the collection exists."""
    if not client.has_collection(name):
        _make_about(client, name)
    client.upsert(name, [about_row(about)])


def make_rows(client: Any, name: str, info: GalleryInfo, index: str, form: str = NULL) -> None:
    """Make an empty collection for a gallery's rows; `form` is that of unknown values."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=info.dimension)
    for item in CORE:
        if pa.types.is_string(item.type):
            can_be_null = {"nullable": True} if form == NULL and item.name != "path" else {}
            schema.add_field(item.name, DataType.VARCHAR, max_length=4096, **can_be_null)
    schema.add_field("time", DataType.DOUBLE, **({"nullable": True} if form == NULL else {}))
    indexes = client.prepare_index_params()
    options = {"metric_type": METRICS[info.metric], "params": dict(INDEXES[index][0])}
    indexes.add_index("vector", index_type=index, **options)
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def _make_about(client: Any, name: str) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # Milvus requires one in each collection
    schema.add_field("text", DataType.VARCHAR, max_length=TEXT)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")


def about_row(about: dict[str, Any]) -> dict[str, Any]:
    """Return a gallery's metadata as the only row of its collection; raise ValueError if it is too long."""
    text = json.dumps(about)
    if len(text.encode()) > TEXT:
        raise UserError(f"Milvus: the gallery's metadata takes {len(text.encode())} bytes, {TEXT} at most")
    return {"id": 0, "vector": [0.0, 0.0], "text": text}


def pack(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def unpack(text: str) -> pa.Schema:
    """Return the inverse of `pack`."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
