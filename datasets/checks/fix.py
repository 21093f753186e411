"""Writes a manifest of a data set without unreadable files and exact copies (--fix)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ...common.csv_file import path_for_csv, write_csv
from .duplicates import DuplicateGroup
from .entries import CheckedImage, Listing
from .read_files import FileScan

log = logging.getLogger(__name__)

_COLUMNS = ("path", "pid", "camid", "split")


def write_manifest(file: Path, listing: Listing, scan: FileScan, copies: Sequence[DuplicateGroup]) -> list[Path]:
    """Write the good images as a CSV file for DATASETS.NAMES manifest; image files are not changed.

    Unreadable files are left out; of exact copies with the same person, camera and split only the first is kept. Copies with
    contradicting labels stay; FILE_conflicts.csv lists them for a decision by hand. Paths in the file's folder are relative.

    Returns:
        The files written.
    """
    repeated = {entry.place for group in copies for entry in group.repeated()}
    good = [e for e in listing.entries if e.record.path not in scan.problems and e.place not in repeated]
    rows = [_row(file.parent, listing, entry) for entry in good]
    optional = [name for name in ("viewid", "tracklet", "clothes") if any(row[name] for row in rows)]
    write_csv(file, (*_COLUMNS, *optional), rows)
    if listing.data.settings and listing.data.name != "manifest":
        log.warning(
            "%s: of the %d evaluations of %s a manifest keeps those in general and by clothes",
            file,
            len(listing.data.settings),
            listing.data.name,
        )
    if listing.data.items == "tracklets":
        log.warning(
            "%s: a manifest is read as images; the tracklets of %s are in its column tracklet", file, listing.data.name
        )
    log.info("%s: %d of %d images kept", file, len(rows), len(listing.entries))
    conflicts = [group for group in copies if group.is_conflict]
    if not conflicts:
        return [file]
    conflicts_csv = conflicts_file(file)
    numbered = ((number, entry) for number, group in enumerate(conflicts, 1) for entry in group.entries)
    rows = [{"group": str(number), **_row(file.parent, listing, entry)} for number, entry in numbered]
    write_csv(conflicts_csv, ("group", *_COLUMNS), rows)
    log.warning(
        "%s: %d groups of copies with contradicting labels, to be decided by hand", conflicts_csv, len(conflicts)
    )
    return [file, conflicts_csv]


def conflicts_file(file: Path) -> Path:
    """Return the path of the list of copies with contradicting labels."""
    return file.with_name(f"{file.stem}_conflicts.csv")


def _row(folder: Path, listing: Listing, entry: CheckedImage) -> dict[str, str]:
    record, data = entry.record, listing.data
    return {
        "path": path_for_csv(Path(record.path), folder),
        "pid": listing.person(entry),
        "camid": data.camera_names[record.camid],
        "split": entry.split,
        "viewid": data.view_names[record.viewid] if record.viewid >= 0 else "",
        "tracklet": str(record.tracklet) if record.tracklet >= 0 else "",
        "clothes": str(record.clothes) if record.clothes >= 0 else "",
    }
