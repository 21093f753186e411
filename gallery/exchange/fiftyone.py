"""A gallery folder -> a dataset of FiftyOne, and back.

A sample is the image of a row: the columns of the record are fields, `embedding` is the embedding, `person_id` the person as a label
(Classification), and `box`, where the row is a box in a still picture, a Detection. The dataset's `info` has what made the embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import MissingPackageError, UserError
from ...common.inputs.image_header import image_size
from ...common.inputs.regular_files import open_regular
from ...common.text import plain_values
from ..maintenance.merge_compact import moved_path
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo
from ..storage.record_images import box_of

PREFIX = "fiftyone:"
INFO = "vitreid"  # key of the dataset's info
EMBEDDING, PERSON, BOX = "embedding", "person_id", "box"  # our fields, in addition to the columns
RENAMED = {"id": "row_id", "path": "filepath"}  # columns that FiftyOne has fields of that name for
RESERVED = ("metadata", "tags", "created_at", "last_modified_at", EMBEDDING, PERSON, BOX, *RENAMED.values())
BATCH = 1000
HEADER_BYTES = 2**18  # of an image file, where its size stands


def to_fiftyone(source: Gallery, address: str, overwrite: bool = False) -> tuple[int, int]:
    """Copy the live rows of a gallery to a dataset of FiftyOne; return how many, and how many boxes of videos were left out.

    Args:
        address: `fiftyone:NAME`, in the database that FiftyOne itself uses.
        overwrite: replace an earlier copy. A copy that is killed leaves it, under this name or as "NAME (earlier)".
    Raises:
        MissingPackageError: fiftyone is not installed.
        FileExistsError: there is a dataset of that name, and `overwrite` is false or vitreid did not make it.
        UserError: the address is no such address, or a column has the name of a field of FiftyOne.
    """
    name, fo = _name(address), _fiftyone(address)
    if taken := sorted({*source.columns} & {*RESERVED}):
        raise UserError(f"FiftyOne: it has a field {taken[0]!r} itself; rename the column, or leave it out")
    draft, earlier = f"{name} (being copied)", f"{name} (earlier)"
    if _is_ours(fo, earlier) and not fo.dataset_exists(name):  # a copy was killed between its last two steps
        fo.load_dataset(earlier).name = name
    if fo.dataset_exists(name) and not _is_ours(fo, name):
        raise FileExistsError(f"{address} is a dataset that vitreid did not make; choose another name")
    if fo.dataset_exists(name) and not overwrite:
        raise FileExistsError(f"{address} exists; choose another name, or add --overwrite")
    for rest in (draft, earlier):
        if _is_ours(fo, rest):
            fo.delete_dataset(rest)
    made = fo.Dataset(draft, persistent=True)
    made.info[INFO] = json.dumps(source.info.to_dict())
    made.save()
    count = left = 0
    for records, vectors in _parts(source):
        samples = [
            _sample(fo, source, record, vector)
            for record, vector in zip(records, vectors, strict=True)
            if not _is_of_video(source, record)
        ]
        made.add_samples(samples, progress=False)
        count, left = count + len(samples), left + len(records) - len(samples)
    if fo.dataset_exists(name):
        fo.load_dataset(name).name = earlier
    made.name = name
    if fo.dataset_exists(earlier):
        fo.delete_dataset(earlier)
    return count, left


def from_fiftyone(
    address: str, output: str | Path, overwrite: bool = False, info: GalleryInfo | None = None, field: str = EMBEDDING
) -> Gallery:
    """Copy a dataset of FiftyOne to a new gallery folder.

    Fields that hold text, numbers or labels become columns; `person_id`, or else `ground_truth`, is the person.

    Args:
        address: as for `to_fiftyone`.
        info: what made the embeddings; None = as the dataset says, which only those of `to_fiftyone` do.
        field: the one with the embeddings.
    Raises:
        FileNotFoundError: there is no such dataset.
        UserError: a sample has no embedding, or the dataset does not say what made them.
        MissingPackageError: fiftyone is not installed.
    """
    name, fo = _name(address), _fiftyone(address)
    if not fo.dataset_exists(name):
        raise FileNotFoundError(f"{address}: no dataset {name!r}; there are {', '.join(fo.list_datasets()) or 'none'}")
    dataset = fo.load_dataset(name)
    if info is None and INFO not in dataset.info:
        raise UserError(
            f"{address} does not say which model made its embeddings; add --like GALLERY, a gallery of the same model, or --model NAME"
        )
    if field not in dataset.get_field_schema():
        raise UserError(f"{address}: no field {field!r}; there are {', '.join(dataset.get_field_schema())}")
    info = info or GalleryInfo.from_dict(json.loads(dataset.info[INFO]))
    folder = Path(output).expanduser().resolve()
    vectors, records = [], []
    for sample in dataset.iter_samples():
        if sample[field] is None:
            raise UserError(f"{address}: {sample.filepath} has no embedding in {field!r}; compute it first")
        vectors.append(np.asarray(sample[field], np.float32))
        records.append(_record(sample, field, folder))
    if len({vector.shape for vector in vectors}) > 1:
        raise UserError(f"{address}: the embeddings in {field!r} have several lengths")
    info = info.moved(vectors[0].size if vectors else info.dimension)

    def fill(made: Gallery) -> None:
        if records:
            made.add(np.stack(vectors), records, made.info.model)

    return Gallery.build(folder, info, fill, overwrite)


def _name(address: str) -> str:
    name = address.removeprefix(PREFIX)
    if not address.startswith(PREFIX) or not name.strip():
        raise UserError(f"{address!r} is not fiftyone:NAME")
    return name


def _fiftyone(address: str) -> Any:
    try:
        import fiftyone
    except ImportError as error:
        raise MissingPackageError(f"{address} needs FiftyOne: pip install fiftyone") from error
    return fiftyone


def _is_ours(fo: Any, name: str) -> bool:
    """Return whether there is a dataset of that name that `to_fiftyone` made."""
    return bool(fo.dataset_exists(name)) and INFO in fo.load_dataset(name).info


def _parts(source: Gallery) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
    positions = np.flatnonzero(source.is_live)
    for start in range(0, len(positions), BATCH):
        some = positions[start : start + BATCH]
        yield source.records.take(some).to_pylist(), source.vectors(some)


def _is_of_video(source: Gallery, record: Mapping[str, Any]) -> bool:
    box = box_of(source.image_path(record["path"]), record)
    return box is not None and box[0] >= 0


def _sample(fo: Any, source: Gallery, record: dict[str, Any], vector: np.ndarray) -> Any:
    path = source.image_path(record["path"])
    fields = {RENAMED.get(name, name): value for name, value in plain_values(record).items() if value is not None}
    fields |= {"filepath": str(path), EMBEDDING: vector}
    if record.get("pid") is not None:
        fields[PERSON] = fo.Classification(label=record["pid"])
    box = box_of(path, record)
    if box is not None and (size := _size(path)) is not None:
        x, y, width, height = box[1:]
        relative = [x / size[0], y / size[1], width / size[0], height / size[1]]
        fields[BOX] = fo.Detection(label=record.get("pid") or "person", bounding_box=relative)
    return fo.Sample(**fields)


def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image file, None if they cannot be read."""
    try:
        with open_regular(path) as file:
            return image_size(file.read(HEADER_BYTES))
    except OSError:
        return None


def _record(sample: Any, field: str, folder: Path) -> dict[str, Any]:
    """Return a sample's plain fields as a record."""
    columns = {ours: name for name, ours in RENAMED.items()}
    record: dict[str, Any] = {"path": moved_path(sample.filepath, Path.cwd(), folder)}
    for name in sample.field_names:
        value = sample[name]
        if isinstance(value, str | int | float | bool) and name not in (*columns, "id", field):
            record[name] = value
    labels = [getattr(sample[name], "label", None) for name in (PERSON, "ground_truth") if name in sample.field_names]
    if "pid" not in record and any(labels):
        record["pid"] = next(filter(None, labels))
    return record
