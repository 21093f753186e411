"""Digests of lists of images, the same in whichever folder they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...common.files import digest
from ...datasets import Record, ReidData


def image_digests(data: ReidData) -> dict[str, str]:
    """Return number and digest of the images of each side."""
    sides = {"training images": data.train, "queries": data.query, "gallery images": data.gallery}
    return {name: image_digest(records) for name, records in sides.items()}


def image_digest(records: Sequence[Record]) -> str:
    """Return number and digest of images or tracklets: the names of their files, people, cameras and views, in order."""
    rows = (f"{_names(record)}\n{record.pid} {record.camid} {record.viewid}\n".encode() for record in records)
    return f"{len(records)} ({digest(rows).removeprefix('sha256:')[:12]})"


def _names(record: Record) -> str:
    return "\n".join(Path(path).name for path in record.files)
