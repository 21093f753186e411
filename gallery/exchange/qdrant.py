"""A gallery folder -> a collection of Qdrant, and back.

A collection has one point per row: the row's id, its embedding, and the columns of its record as payload. Its metadata has what
made the embeddings. The name that the user gives is an alias, which changes last: a copy that was killed leaves the earlier one.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...common.errors import MissingPackageError, UserError
from ...common.text import plain_values
from ..maintenance.merge_compact import moved_path
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo
from ..storage.records_file import is_plain

PREFIX, COLLECTION = "qdrant:", "gallery"
METRICS = {"euclidean": "Euclid", "cosine": "Cosine"}
BATCH = 1000
INFO, ROOT = "vitreid", "root"  # keys of a collection's metadata
TIMEOUT = 60  # seconds for one call
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PART = re.compile(r"(.+)\.[0-9a-f]{12}")


def to_qdrant(source: Gallery, address: str, overwrite: bool = False) -> int:
    """Copy the live rows of a gallery, with their ids, to Qdrant; return how many.

    Qdrant keeps rows that are compared by cosine at unit length. float16 and int8 become float32.

    Args:
        address: `qdrant:FOLDER` (in this process, for up to some 20,000 rows) or `qdrant:http://HOST:PORT`, then `#NAME`. A server that
            wants a key gets the environment variable QDRANT_API_KEY.
        overwrite: replace an earlier copy; it stays in use until the new one is complete.
    Raises:
        MissingPackageError: qdrant-client is not installed.
        FileExistsError: there is a collection of that name, and `overwrite` is false or vitreid did not make it.
        OSError: the server does not answer, or refuses; an earlier copy is intact.
        UserError: the address is no such address, or a column holds neither text nor numbers.
    """
    check_columns_fit(source.schema)
    with connected(address, create=True) as (client, name):
        if name in (known := _collections(client)):
            raise FileExistsError(f"{address}: {name} is a collection that vitreid did not make; choose another #NAME")
        earlier = _target(client, name)
        if earlier is not None and not overwrite:
            raise FileExistsError(f"{address} exists; choose another #NAME, or add --overwrite")
        for part in known:  # of killed copies
            found = _PART.fullmatch(part)
            if found and found[1] == name and part != earlier and INFO in _metadata(client, part):
                client.delete_collection(part)
        made = f"{name}.{uuid.uuid4().hex[:12]}"
        count = _fill(client, made, source)
        _point(client, name, made, earlier)
        if earlier is not None:
            client.delete_collection(earlier)
    return count


def from_qdrant(address: str, output: str | Path, overwrite: bool = False, info: GalleryInfo | None = None) -> Gallery:
    """Copy a collection of Qdrant to a new gallery folder; the rows get new ids, in the order of the old ones.

    Args:
        address: as for `to_qdrant`.
        info: what made the embeddings; None = as the collection says, which only those of `to_qdrant` do. Its dimension and metric
            are those of the collection.
    Raises:
        FileNotFoundError: there is no such collection.
        UserError: a point has no path or no embedding, or the collection does not say what made them.
        MissingPackageError, OSError: as for `to_qdrant`.
    """
    folder = Path(output).expanduser().resolve()
    with connected(address) as (client, name):
        target = _target(client, name) or name
        if target not in _collections(client):
            known = ", ".join(sorted({*_collections(client), *_aliases(client)})) or "none"
            raise FileNotFoundError(f"{address}: no collection {name}; there are {known}")
        about, vectors_config = _metadata(client, target), client.get_collection(target).config.params.vectors
        start = Path(about.get(ROOT) or Path.cwd())
        known_info = _fitting(address, vectors_config, info or _info_of(address, about))
        vectors, records = _all_points(client, target, address)
    for record in records:
        record["path"] = moved_path(record["path"], start, folder)

    def fill(made: Gallery) -> None:
        if records:
            made.add(vectors, records, known_info.model)

    return Gallery.build(folder, known_info, fill, overwrite)


def check_columns_fit(schema: pa.Schema) -> None:
    """Raise UserError, naming the column, if a payload cannot hold it."""
    for item in schema:
        if not is_plain(item.type):
            raise UserError(f"Qdrant: column {item.name!r} holds {item.type}; make it text or numbers, or leave it out")


@contextmanager
def connected(address: str, create: bool = False) -> Iterator[tuple[Any, str]]:
    """Yield a client and the collection's name; its errors become OSError, naming the address.

    Args:
        create: a folder that does not exist is made.
    Raises:
        MissingPackageError, FileNotFoundError, OSError, UserError: as for `to_qdrant` and `from_qdrant`.
    """
    place, _, name = address.removeprefix(PREFIX).partition("#")
    name = name or COLLECTION
    is_server = "://" in place
    if not address.startswith(PREFIX) or not place:
        raise UserError(f"{address!r} is neither qdrant:FOLDER nor qdrant:http://HOST:PORT")
    if not _NAME.fullmatch(name):
        raise UserError(f"{address}: a name has up to 100 letters, digits, _ and -, got {name!r}")
    if is_server and "@" in place:
        raise UserError("the address holds a password, which would be written into logs; set QDRANT_API_KEY")
    try:
        from qdrant_client import QdrantClient
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException
    except ImportError as error:
        raise MissingPackageError(f'{address} needs qdrant-client: pip install "vitreid[qdrant]"') from error
    if not is_server and not create and not Path(place, "meta.json").is_file():
        raise FileNotFoundError(f"{place}: no folder of Qdrant; make one with vitreid gallery to-qdrant")
    if not is_server and Path(place).is_dir() and os.listdir(place) and not Path(place, "meta.json").is_file():
        raise FileExistsError(f"{place} is no folder of Qdrant, but not empty either; choose another folder")
    try:
        if is_server:
            client = QdrantClient(url=place, api_key=os.environ.get("QDRANT_API_KEY"), timeout=TIMEOUT)
        else:
            client = QdrantClient(path=place)
    except RuntimeError as error:  # of its lock
        raise BlockingIOError(f"{place} is in use by another program; try again when it is done") from error
    try:
        yield client, name
    except (ApiException, QdrantException) as error:
        raise OSError(f"{address}: {error}; is the server running, and QDRANT_API_KEY right?") from error
    finally:
        client.close()


def _collections(client: Any) -> set[str]:
    return {found.name for found in client.get_collections().collections}


def _aliases(client: Any) -> dict[str, str]:
    return {found.alias_name: found.collection_name for found in client.get_aliases().aliases}


def _target(client: Any, name: str) -> str | None:
    """Return the collection that a name stands for, None = the name is no alias."""
    return _aliases(client).get(name)


def _metadata(client: Any, collection: str) -> dict[str, Any]:
    return client.get_collection(collection).config.metadata or {}


def _point(client: Any, name: str, made: str, earlier: str | None) -> None:
    """Let the name stand for another collection, in one step."""
    from qdrant_client import models

    remove = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=made, alias_name=name))
    client.update_collection_aliases([create] if earlier is None else [remove, create])


def _fill(client: Any, collection: str, source: Gallery) -> int:
    """Make a collection of the live rows; return their number."""
    from qdrant_client import models

    info = source.info
    client.create_collection(
        collection,
        models.VectorParams(size=info.dimension, distance=models.Distance(METRICS[info.metric])),
        metadata={INFO: plain_values(info.to_dict()), ROOT: str(source.path)},
    )
    positions = np.flatnonzero(source.is_live)
    for start in range(0, len(positions), BATCH):
        some = positions[start : start + BATCH]
        records = source.records.take(some).to_pylist()
        ids = [record.pop("id") for record in records]
        payloads = [
            {name: value for name, value in plain_values(record).items() if value is not None} for record in records
        ]
        client.upsert(collection, models.Batch(ids=ids, vectors=source.vectors(some).tolist(), payloads=payloads))
    return len(positions)


def _all_points(client: Any, collection: str, address: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the embeddings (N, D) and records of a collection, by id."""
    points, place = [], None
    while True:
        found, place = client.scroll(collection, limit=BATCH, offset=place, with_payload=True, with_vectors=True)
        points += found
        if place is None:
            break
    for point in points:
        if not isinstance(point.vector, list) or not isinstance((point.payload or {}).get("path"), str):
            raise UserError(f"{address}: the point {point.id} has no unnamed embedding, or no path in its payload")
    return np.array([point.vector for point in points], np.float32), [dict(point.payload) for point in points]


def _info_of(address: str, about: dict[str, Any]) -> GalleryInfo:
    if INFO not in about:
        raise UserError(
            f"{address} does not say which model made its embeddings; add --like GALLERY, a gallery of the same model, or --model "
            "NAME"
        )
    return GalleryInfo.from_dict(about[INFO])


def _fitting(address: str, vectors: Any, info: GalleryInfo) -> GalleryInfo:
    """Return the description with the dimension and metric of the collection."""
    metric = {kind: name for name, kind in METRICS.items()}.get(
        getattr(getattr(vectors, "distance", None), "value", "")
    )
    if metric is None:
        raise UserError(f"{address}: its embeddings are compared neither by Euclid nor by Cosine, or have names")
    return replace(info.moved(vectors.size), metric=metric)
