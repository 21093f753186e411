"""The plan of an export: the source's rows, counted and hashed, and every setting that affects the output."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from ...common.errors import UserError
from ...common.files import digest, write_text_atomically
from ...common.inputs.regular_files import read_json
from ...processor.embedding.embedder import Embedder
from .sources import Source

PART_ROWS = 4096  # rows per part, the most that a killed export has to embed again


@dataclass(frozen=True)
class ExportPlan:
    """Everything that determines the exported bytes. Parts written under a different plan are not reused.

    Args:
        model: fingerprint of the embedder.
        source: the source as given by the user.
        rows: fingerprint of the source's rows.
        count: number of rows.
        dtype: type of the embeddings, float32 or float16.
        batch_size: images per pass through the model.
        part_size: rows per part, a multiple of `batch_size`.
        device, precision: hardware and arithmetic of the model; others round differently.
        created: start of the export (ISO 8601); the only field that may differ.
        files: one fingerprint per part of the size and date of its images.
    """

    model: str
    source: str
    rows: str
    count: int
    dtype: str
    batch_size: int
    part_size: int
    device: str
    precision: str
    created: str
    files: tuple[str, ...] = ()

    @property
    def num_parts(self) -> int:
        """Number of parts; the last may be shorter."""
        return -(-self.count // self.part_size)

    def size_of(self, number: int) -> int:
        """Return the number of rows in part `number`."""
        return min(self.part_size, self.count - number * self.part_size)

    def differences(self, other: ExportPlan, files: bool = True) -> list[str]:
        """Return the differences as text, `self` before `other`; with `files=False` images may have been replaced."""
        names = [item.name for item in fields(self) if item.name not in ("created", "source", "files")]
        found = [
            f"{name} was {getattr(self, name)}, is now {getattr(other, name)}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
        if files and not found and self.files != other.files:
            found.append("image files were changed, added or deleted since")
        return found

    @classmethod
    def read(cls, file: Path) -> ExportPlan | None:
        """Return the plan in a file; None if there is none that this version can read."""
        try:
            values = read_json(file)
            return cls(**{**values, "files": tuple(values.get("files", ()))})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
            return None

    def write(self, file: Path) -> None:
        """Write the plan, atomically."""
        write_text_atomically(file, json.dumps(asdict(self), indent=2) + "\n")


def make_plan(embedder: Embedder, source: Source, text: str, dtype: str) -> ExportPlan:
    """Build the plan: read the source's rows once, and size and date of their images.

    Args:
        text: the source as given by the user.
        dtype: type of the embeddings on disk.
    Raises:
        ValueError: there is no row, or a file name is not UTF-8.
    """
    part_size = max(1, PART_ROWS // embedder.batch_size) * embedder.batch_size
    hashed, count, files, rows = hashlib.sha256(), 0, [], source.rows()
    while part := list(itertools.islice(rows, part_size)):
        for row in part:
            _check_name(row.path)
            hashed.update(json.dumps(row.to_dict()).encode())
        files.append(digest(repr(_size_and_date(row.path)).encode() for row in part))
        count += len(part)
    if not count:
        raise UserError(f"--input: {text} names no image; give a folder with images below it, or a CSV with lines")
    return ExportPlan(
        model=embedder.fingerprint,
        source=text,
        rows=f"sha256:{hashed.hexdigest()}",
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


def _size_and_date(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: not a possible file name
        return None
    return found.st_size, found.st_mtime_ns
