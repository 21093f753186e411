"""The files of a gallery folder: those it consists of, and those in which an export describes its rows."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ...common.inputs.regular_files import JSON_BYTES, read_bytes
from ...common.locks import FILE as LOCK

EMBEDDINGS, RECORDS, PROJECTION, METADATA = "embeddings.npy", "records.parquet", "projection.npz", "gallery.json"
CAMERAS = "cameras.npz"
SUPPRESSED = "suppressed.parquet"  # keys of removed rows, see keeping/suppress_list
OWN_FILES = frozenset(
    {
        LOCK,
        *(
            text
            for name in (EMBEDDINGS, RECORDS, PROJECTION, CAMERAS, SUPPRESSED, METADATA)
            for text in (name, f".{name}.tmp")
        ),
    }
)  # all other files in the folder, such as images, belong to the user
EXPORT_PLAN, SKIPPED, EXPORTED = "export.json", "skipped.txt", "exported.parquet"
EXPORT_FILES = (EXPORT_PLAN, SKIPPED, EXPORTED)  # no longer true once the rows are replaced
REPLACED_FILES = OWN_FILES | {text for name in EXPORT_FILES for text in (name, f".{name}.tmp")}  # with the rows
IDENTITIES = "identities.parquet"  # people by the rows' keys: stays when the rows are replaced
DECISIONS = "decisions.jsonl"  # what people have decided, by the rows' keys: stays, too
EXPORTED_FILES = REPLACED_FILES | {
    IDENTITIES,
    f".{IDENTITIES}.tmp",
    DECISIONS,
}  # that may lie in the folder of an export
ENROLLED = "enrolled"  # folder of the images of people who were enrolled over HTTP
TRACK_CROPS = "track_crops"  # folder of the crops of an export of recordings


def replaced_files(old: Path) -> Collection[str]:
    """Return the files that go with the rows when a gallery replaces another one; `old` is the earlier folder, .NAME.old.

    Crops of tracks stay if the rows are still those of the same export, as after `compact`.
    """
    crops, plan = old / TRACK_CROPS, _content(old / EXPORT_PLAN)
    new = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
    if not crops.is_dir() or b'"recordings"' not in plan or plan == _content(new / EXPORT_PLAN):
        return REPLACED_FILES
    return REPLACED_FILES | {f"{TRACK_CROPS}/{file.name}" for file in crops.iterdir()}


def _content(file: Path) -> bytes:
    with suppress(OSError, ValueError):
        return read_bytes(file, JSON_BYTES)
    return b""
