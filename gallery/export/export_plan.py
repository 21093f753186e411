"""The plan of an export: its rows or recordings, and every setting that affects the output."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

from ...common.errors import UserError
from ...common.files import digest, write_text_atomically
from ...common.inputs.regular_files import read_json
from ...processor.embedding.embedder import Embedder
from .source_rows import Source

NAMED = 5  # differences named in a message
PART_ROWS = 4096  # rows per part, the most that a killed export has to embed again


@dataclass(frozen=True)
class Plan:
    """Everything that determines the exported bytes. Parts written under a different plan are not reused.

    Args:
        model: fingerprint of the embedder.
        source: the source as given by the user.
        dtype: type of the embeddings, float32 or float16.
        batch_size: images per pass through the model.
        device, precision: hardware and arithmetic of the model; others round differently.
        created: start of the export (ISO 8601); the only field that may differ.
        files: one fingerprint of size and date per part, or per recording.
    """

    what: ClassVar[str]  # what is exported, for messages

    model: str
    source: str
    dtype: str
    batch_size: int
    device: str
    precision: str
    created: str
    files: tuple[str, ...]

    def differences(self, other: Plan, files: bool = True) -> list[str]:
        """Return the differences as text, `self` before `other`; with `files=False` images may have been replaced."""
        if type(self) is not type(other):
            return [f"it exported {self.what}s, and now exports {other.what}s"]
        mine, theirs = self._compared(), other._compared()
        different = self.different_fields(other)
        found = [
            f"{name} was {mine.get(name)}, is now {theirs.get(name)}"
            for name in dict.fromkeys([*mine, *theirs])
            if name in different
        ]
        if len(found) > NAMED:
            found[NAMED:] = [f"and {len(found) - NAMED} more differences"]
        if files and not found and self.files != other.files:
            found.append(f"{self.what} files were changed, added or deleted since")
        return found

    def different_fields(self, other: Plan) -> set[str]:
        """Return the names of the settings that differ."""
        mine, theirs = self._compared(), other._compared()
        return {name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)}

    def _compared(self) -> dict[str, Any]:
        """Return the fields that must be equal, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("created", "source", "files")
        }

    def write(self, file: Path) -> None:
        """Write the plan, atomically."""
        write_text_atomically(file, json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class ExportPlan(Plan):
    """The plan of an export of images.

    Args:
        rows: fingerprint of the source's rows.
        count: number of rows.
        part_size: rows per part, a multiple of `batch_size`.
    """

    what: ClassVar[str] = "image"

    rows: str
    count: int
    part_size: int

    @property
    def num_parts(self) -> int:
        """Number of parts; the last may be shorter."""
        return -(-self.count // self.part_size)

    def size_of(self, number: int) -> int:
        """Return the number of rows in part `number`."""
        return min(self.part_size, self.count - number * self.part_size)


@dataclass(frozen=True)
class RecordingPlan(Plan):
    """The plan of an export of recordings.

    Args:
        recordings: source, name, camera and start of each.
        settings: options of detector, tracker and rows, by name.
        chunk_frames: frames after which the work is saved.
    """

    what: ClassVar[str] = "video"

    recordings: tuple[tuple[str, ...], ...]
    chunk_frames: int
    settings: dict[str, Any] = field(default_factory=dict)

    def _compared(self) -> dict[str, Any]:
        values = super()._compared()
        recordings, settings = values.pop("recordings"), values.pop("settings")
        places = {f"recording {name}": ", ".join((source, *about)) for source, name, *about in recordings}
        return {**values, **settings, **places}


def read_plan(file: Path) -> Plan | None:
    """Return the plan in a file; None if there is none that this version can read."""
    try:
        values = read_json(file)
        kind = RecordingPlan if "recordings" in values else ExportPlan
        values = {**values, "files": tuple(values.get("files", ()))}
        if kind is RecordingPlan:
            values["recordings"] = tuple(tuple(item) for item in values["recordings"])
        return kind(**values)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return None


def make_plan(embedder: Embedder, source: Source, text: str, dtype: str, may_be_empty: bool = False) -> ExportPlan:
    """Build the plan: read the source's rows once, and size and date of their images.

    Args:
        text: the source as given by the user.
        dtype: type of the embeddings on disk.
        may_be_empty: accept a source without rows.
    Raises:
        ValueError: there is no row, or a file name is not UTF-8.
    """
    part_size = max(1, PART_ROWS // embedder.batch_size) * embedder.batch_size
    hashed, count, files, rows = hashlib.sha256(), 0, [], source.rows()
    while part := list(itertools.islice(rows, part_size)):
        for row in part:
            _check_name(row.path)
            hashed.update(json.dumps(row.to_dict()).encode())
        files.append(digest(repr(size_and_date(row.path)).encode() for row in part))
        count += len(part)
    if not count and not may_be_empty:
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


def size_and_date(path: str) -> tuple[int, int] | None:
    """Return bytes and date (nanoseconds since 1970) of a file; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: not a possible file name
        return None
    return found.st_size, found.st_mtime_ns
