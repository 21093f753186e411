"""Merge galleries, and compact one that has removed rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ...common.errors import UserError
from ...common.inputs.regular_files import JSON_BYTES, read_bytes
from ...common.replace_folder import replacement
from ..keeping.decision_file import take_over
from ..keeping.row_keys import are_in
from ..keeping.suppress_changes import inherit
from ..storage.embeddings_file import blocks
from ..storage.file_names import EXPORT_FILES, replaced_files
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo
from ..storage.records_file import CORE, with_ids
from ..storage.row_checks import check_not_cut


class MergeCount(NamedTuple):
    """What became of the sources' live rows: added, there before, or left out because they were removed from the target."""

    added: int
    present: int
    suppressed: int


def merge(target: Gallery, sources: Sequence[Gallery | str | Path]) -> int:
    """Add the live rows of other galleries, with new ids; return how many. See `merge_rows`."""
    return merge_rows(target, sources).added


def merge_rows(target: Gallery, sources: Sequence[Gallery | str | Path]) -> MergeCount:
    """Add the live rows of other galleries that the target does not have, by their keys; return how many.

    Rows that were removed from the target stay out; what was removed from a source will stay out from now on, too. Relative paths
    of images become absolute, since they start at the folder of their gallery. Each source is added completely or, after a crash,
    not at all. Then the decisions about who is who are added, each once.

    Raises:
        ValueError: a source is the target, or has another model, projection or metric; names both. Nothing is added.
        BlockingIOError: another process is writing into the target.
    """
    galleries = [item if isinstance(item, Gallery) else Gallery(Path(item).expanduser().resolve()) for item in sources]
    for source in galleries:
        _check_mergeable(target, source)
        check_rows(source)
    counts = np.zeros(3, int)
    with target.writing():
        known = target.live_keys()
        for source in galleries:
            inherit(target, source)
            keys, left = source.keys(), wanted(source, target)
            chosen = left & ~are_in(keys, known)
            counts += chosen.sum(), (left & ~chosen).sum(), (source.is_live & ~left).sum()
            target.check_cameras(live_records(source, chosen))
            ids = np.arange(target.state.next_id, target.state.next_id + chosen.sum())
            parts = (_encoded(source.info.decode(rows), target.info) for rows in live_rows(source, chosen))
            target.append(parts, [with_ids(_moved(source, chosen), ids)])
            known = pa.concat_arrays([known, keys.filter(pa.array(chosen))])
    for source in galleries:
        take_over(target.path, source.path)  # after a crash, merging again adds what is missing
    return MergeCount(*counts.tolist())


def wanted(source: Gallery, target: Gallery) -> np.ndarray:
    """Return (count,) bool: the live rows of a gallery that were not removed from another one."""
    if not target.state.suppressed:
        return source.is_live
    return source.is_live & ~target.is_suppressed(source.keys())


def _encoded(vectors: np.ndarray, info: GalleryInfo) -> np.ndarray:
    """Return vectors (n, D) as stored; raise UserError if int8 would cut them."""
    rows = info.encode(vectors)
    check_not_cut(vectors, rows, info)
    return rows


def _check_mergeable(target: Gallery, source: Gallery) -> None:
    if source.path == target.path:
        raise UserError(f"merge: {source.path} is the target itself; name other galleries")
    target.info.check_model(target.path, source.info.model, f"those of {source.path}", source.info.model_name)
    for name in ("dimension", "projection", "metric"):
        ours, theirs = getattr(target.info, name), getattr(source.info, name)
        if ours != theirs:
            raise UserError(
                f"merge: {name} is {theirs} in {source.path} and {ours} in {target.path}; export both in the same way"
            )


def _moved(source: Gallery, chosen: np.ndarray) -> pa.Table:
    """Return the chosen records without ids and with absolute paths."""
    records = pa.concat_tables(list(live_records(source, chosen))).drop_columns("id")
    paths = [str(source.image_path(path)) for path in records["path"].to_pylist()]
    return records.set_column(0, CORE.field("path"), pa.array(paths, pa.string()))


def moved_path(path: str, start: Path, folder: Path) -> str:
    """Return a path that starts at `folder` in place of `start`; an absolute one stays.

    >>> moved_path("a/1.jpg", Path("/data/old"), Path("/data/new")), moved_path("/a/1.jpg", Path("/x"), Path("/y"))
    ('../old/a/1.jpg', '/a/1.jpg')
    """
    return path if os.path.isabs(path) else os.path.relpath(start / path, folder)


def placed(records: pa.Table, start: Path, folder: Path) -> pa.Table:
    """Return records whose relative paths start at `folder` in place of `start`."""
    paths = [name and moved_path(name, start, folder) for name in records["path"].to_pylist()]
    return records.set_column(records.schema.get_field_index("path"), CORE.field("path"), pa.array(paths, pa.string()))


def live_rows(gallery: Gallery, chosen: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield the rows that were not removed, or the `chosen` (count,) bool, as stored, in blocks."""
    is_live = gallery.is_live if chosen is None else chosen
    for start, rows in blocks(gallery.embeddings):
        live = is_live[start : start + len(rows)]
        yield rows if live.all() else rows[live]


def check_rows(gallery: Gallery) -> None:
    """Raise UserError, naming them, if live rows hold NaN or infinite values: what is made of them would be wrong too."""
    places = np.flatnonzero(gallery.is_live)
    bad = [~np.isfinite(rows).all(1) for rows in live_rows(gallery)] if gallery.embeddings.dtype.kind == "f" else []
    found = places[np.concatenate(bad)] if bad else places[:0]
    if len(found):
        raise UserError(
            f"{gallery.path}: {len(found)} rows hold NaN or infinite values, the first has the id {gallery.ids[found[0]]}; restore "
            "embeddings.npy, or remove them"
        )


def live_records(gallery: Gallery, chosen: np.ndarray | None = None) -> Iterator[pa.Table]:
    """Yield the records of `live_rows` in its order; one table, empty, if there is none."""
    is_live, start = pa.array(gallery.is_live if chosen is None else chosen), 0
    for batch in gallery.batches():
        yield batch.filter(is_live.slice(start, len(batch)))
        start += len(batch)


def compact(gallery: Gallery) -> int:
    """Rewrite the folder without the removed rows, ids unchanged; return how many rows were dropped.

    The new folder is written next to the old one and replaces it when complete, so twice the space is needed until then.
    Other files in the folder, such as images, stay there.

    Raises:
        BlockingIOError: another process is writing.
        OSError: the disk is full; the gallery is unchanged.
    """
    with gallery.lock:
        gallery.refresh()
        dropped = len(gallery.state.removed)
        with replacement(gallery.path, gallery.lock, replaced_files) as folder:
            copy_into(folder, gallery)
        gallery.reload()
    return dropped


def copy_into(folder: Path, gallery: Gallery) -> None:
    """Write the live rows and the other files that describe them into an empty folder."""
    copy = Gallery.create(folder, gallery.info, projection=gallery.projection)
    copy.append(live_rows(gallery), list(live_records(gallery)))
    copy.commit(replace(copy.state, next_id=gallery.state.next_id))
    copy.set_suppressed(gallery.suppressed)
    for name in EXPORT_FILES:
        if (gallery.path / name).is_file():
            (folder / name).write_bytes(read_bytes(gallery.path / name, JSON_BYTES))
