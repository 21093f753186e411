"""Drop the records of unreadable images (DATASETS.CORRUPT skip)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..records import Record, ReidData
from .decode import CorruptImageError, read_image

log = logging.getLogger(__name__)

Once = Callable[[Callable[[], set[str]]], set[str]]


def in_each(look: Callable[[], set[str]]) -> set[str]:
    """Default for `once` in a single process: call `look`. A distributed run passes a function that calls it on rank 0 and broadcasts."""
    return look()


def drop_unreadable(data: ReidData, num_threads: int = 2, once: Once = in_each) -> ReidData:
    """Read every image once; return the data set without corrupt and missing images, and log these.

    Tracklets lose such frames; one without any other is left out.

    Args:
        once: makes all ranks drop the same images, see `in_each`.
    Raises:
        OSError: another read error, e.g. of the disk or the network.
    """
    records = (*data.train, *data.query, *data.gallery)
    bad = once(lambda: _unreadable({path for record in records for path in record.files}, num_threads))
    if not bad:
        return data
    log.warning("%s: %d unreadable images left out: %s", data.name, len(bad), ", ".join(sorted(bad)[:5]))
    splits = (data.train, data.query, data.gallery)
    train, query, gallery = ([kept for record in split if (kept := _without(record, bad))] for split in splits)
    return replace(data, train=train, query=query, gallery=gallery)


def _without(record: Record, bad: set[str]) -> Record | None:
    """Return the record without some of its files; None if no file is left."""
    files = tuple(path for path in record.files if path not in bad)
    if files == record.files:
        return record
    return replace(record, path=files[0], frames=files) if files else None


def _unreadable(paths: Iterable[str], num_threads: int) -> set[str]:
    ordered = sorted(paths)
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        return {path for path, readable in zip(ordered, pool.map(_is_readable, ordered), strict=True) if not readable}


def _is_readable(path: str) -> bool:
    try:
        read_image(path)
    except (CorruptImageError, FileNotFoundError, IsADirectoryError, PermissionError):
        return False
    return True
