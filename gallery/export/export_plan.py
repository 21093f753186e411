"""What an export is to do: its source's rows, counted and fingerprinted, and all else that decides its bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from datetime import datetime, timezone

from ...common.errors import UserError
from ...processor.embedding.embedder import Embedder
from .sources import Row, Source
from .work_folder import Plan

PART_ROWS = 4096  # what a killed export has to do again, at most


def make_plan(embedder: Embedder, source: Source, text: str, dtype: str) -> Plan:
    """Read the source's rows once, with size and date of their images, and return what decides the export's bytes.

    Raises:
        ValueError: there is no row, or a file's name is not UTF-8.
    """
    part_size = max(1, PART_ROWS // embedder.batch_size) * embedder.batch_size
    digest, count, files, rows = hashlib.sha256(), 0, [], source.rows()
    while part := list(itertools.islice(rows, part_size)):
        for row in part:
            _check_name(row.path)
            digest.update(json.dumps(row.to_dict()).encode())
        files.append(_digest_of_files(part))
        count += len(part)
    if not count:
        raise UserError(f"--input: {text} names no image; give a folder with images below it, or a CSV with lines")
    return Plan(
        model=embedder.fingerprint,
        source=text,
        rows=f"sha256:{digest.hexdigest()}",
        count=count,
        dtype=dtype,
        batch_size=embedder.batch_size,
        part_size=part_size,
        device=embedder.device.type,
        precision=str(embedder.precision).removeprefix("torch."),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        files=tuple(files),
    )


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"--input: the name {os.fsencode(path)!r} is not UTF-8, as a gallery's paths are; rename the file or folder"
        ) from error


def _digest_of_files(rows: Iterable[Row]) -> str:
    """Return a fingerprint that changes when an image is replaced, deleted, or put where it was missing."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(_size_and_date(row.path)).encode())
    return f"sha256:{digest.hexdigest()}"


def _size_and_date(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no file can be called that
        return None
    return found.st_size, found.st_mtime_ns
