"""The files of a gallery folder: those it consists of, and those in which an export describes its rows."""

from __future__ import annotations

from ...common.locks import FILE as LOCK

EMBEDDINGS, RECORDS, PROJECTION, METADATA = "embeddings.npy", "records.parquet", "projection.npz", "gallery.json"
OWN_FILES = frozenset(
    {LOCK, *(text for name in (EMBEDDINGS, RECORDS, PROJECTION, METADATA) for text in (name, f".{name}.tmp"))}
)  # all other files in the folder, such as images, belong to the user
EXPORT_PLAN, SKIPPED = "export.json", "skipped.txt"
EXPORT_FILES = (EXPORT_PLAN, SKIPPED)  # no longer true once the rows are replaced
REPLACED_FILES = OWN_FILES | {text for name in EXPORT_FILES for text in (name, f".{name}.tmp")}  # with the rows
