"""Verify a gallery: read all of its files and list what is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...common.inputs.archives import DAMAGE, read_header
from ...common.inputs.regular_files import open_regular
from ...common.replace_folder import read_through
from ..keeping.decision_file import DecisionFile
from ..keeping.row_keys import are_in, key_columns, keys_of
from ..keeping.suppress_list import keys_in, read_list
from ..storage.embeddings_file import belong_to, blocks, checksum_of, map_rows
from ..storage.file_names import DECISIONS, EMBEDDINGS, METADATA, PROJECTION, RECORDS, SUPPRESSED, replaced_files
from ..storage.metadata import State
from ..storage.projection import Projection
from ..storage.records_file import RecordsFile
from ..storage.row_checks import reasons, squared_lengths

NAMED = 5  # rows or files named in a message


@dataclass(frozen=True)
class GalleryProblem:
    """A damaged or missing part of a gallery.

    Args:
        file: name of the file.
        message: description of the damage.
    """

    file: str
    message: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.file}: {self.message}"


def verify(path: str | Path, images: bool = True) -> list[GalleryProblem]:
    """Read all files of a gallery and return the problems found; an empty list means that it is complete.

    Args:
        images: also check that the image files exist.
    """
    path = Path(path).expanduser().resolve()
    try:
        state = read_through(path / METADATA, replaced_files, lambda: State.read(path))
    except (OSError, ValueError) as error:
        return [GalleryProblem(METADATA, str(error))]
    return [
        *_check_projection(path, state),
        *_check_embeddings(path, state),
        *_check_records(path, state, images),
        *_check_suppressed(path, state),
        *_check_decisions(path),
    ]


def _check_projection(path: Path, state: State) -> Iterator[GalleryProblem]:
    if state.info.projection is None:
        return
    try:
        found = Projection.load(path)
    except (OSError, ValueError) as error:
        yield GalleryProblem(PROJECTION, str(error))
        return
    if found.fingerprint != state.info.projection:
        yield GalleryProblem(PROJECTION, f"is {found.fingerprint}, {METADATA} asks for {state.info.projection}")


def _check_embeddings(path: Path, state: State) -> Iterator[GalleryProblem]:
    file, info = path / EMBEDDINGS, state.info
    try:
        rows = map_rows(file, state.count, info.dimension, info.dtype)
    except (OSError, ValueError) as error:
        yield GalleryProblem(EMBEDDINGS, str(error))
        return
    yield from _check_header(file, state)
    if checksum_of(rows) != state.checksum:
        yield GalleryProblem(
            EMBEDDINGS, f"the {state.count} rows are not those that were written (checksum); restore the file"
        )
    squares = [squared_lengths(info.decode(part), part) for _, part in blocks(rows)]
    if squares:
        for reason, found in reasons(np.concatenate(squares), info).items():
            yield GalleryProblem(EMBEDDINGS, f"{len(found)} rows are no embeddings ({reason}): {_some(found.tolist())}")


def _check_header(file: Path, state: State) -> Iterator[GalleryProblem]:
    """Check the .npy header, which other programs read."""
    try:
        with open_regular(file) as opened:
            shape, _, dtype = read_header(opened)
    except DAMAGE as error:
        yield GalleryProblem(EMBEDDINGS, f"other programs cannot read it ({error}); the next add writes a new header")
        return
    expected = (state.info.dimension, np.dtype(state.info.dtype))
    if shape[1:] != expected[:1] or dtype != expected[1] or shape[0] < state.count:
        yield GalleryProblem(
            EMBEDDINGS,
            f"its header says {shape} {dtype}, {METADATA} says {(state.count, expected[0])} {expected[1]}",
        )


def _check_records(path: Path, state: State, images: bool) -> Iterator[GalleryProblem]:
    try:
        records = RecordsFile(path / RECORDS, state.count)
        table = records.read(["id", "path"])
    except (OSError, ValueError, pa.ArrowException) as error:
        yield GalleryProblem(RECORDS, str(error))
        return
    rows = _rows(path, state)
    if rows is not None and not belong_to(path / EMBEDDINGS, rows, state.checksum, records.mark):
        yield GalleryProblem(RECORDS, f"was written for other embeddings than {EMBEDDINGS}; restore both together")
    if missing := table["id"].null_count:
        yield GalleryProblem(RECORDS, f"{missing} rows have no id; restore the file")
        return
    ids = table["id"].to_numpy()
    if len(ids) and ids.min() < 0:
        yield GalleryProblem(
            RECORDS, f"{int((ids < 0).sum())} ids are negative: {_some(ids[ids < 0].tolist())}; restore the file"
        )
    if (np.diff(ids) <= 0).any() or (len(ids) and ids[-1] >= state.next_id):
        yield GalleryProblem(
            RECORDS, f"ids must ascend and stay below {state.next_id}, as {METADATA} says; restore the file"
        )
    if unknown := sorted(set(state.removed) - set(ids.tolist())):
        yield GalleryProblem(METADATA, f"{len(unknown)} of the removed ids are not in {RECORDS}: {_some(unknown)}")
    names = dict.fromkeys(table.filter(~np.isin(ids, state.removed))["path"].to_pylist()) if images else ()
    if missing := [name for name in names if not _is_there(path / name)]:
        yield GalleryProblem(RECORDS, f"{len(missing)} images are missing: {_some(missing)}")


def _check_suppressed(path: Path, state: State) -> Iterator[GalleryProblem]:
    """Check the list of removed rows, and that none of them is back."""
    try:
        entries = read_list(path, state.suppressed)
    except (OSError, ValueError, pa.ArrowException) as error:
        yield GalleryProblem(SUPPRESSED, str(error))
        return
    try:
        records = RecordsFile(path / RECORDS, state.count)
        table = records.read(["id", *key_columns(records.schema.names)]) if len(entries) else None
    except (OSError, ValueError, pa.ArrowException):  # reported by `_check_records`
        return
    if table is None:
        return
    live = table.filter(~np.isin(table["id"].to_numpy(), state.removed))
    back = live["id"].to_numpy()[are_in(keys_of(live, path), keys_in(entries))]
    if len(back):
        yield GalleryProblem(
            SUPPRESSED,
            f"{len(back)} rows that were removed are back, ids {_some(back.tolist())}: remove them again, or drop them from the "
            "list with vitreid gallery allow",
        )


def _check_decisions(path: Path) -> Iterator[GalleryProblem]:
    try:
        DecisionFile(path).read()
    except (OSError, ValueError) as error:
        yield GalleryProblem(DECISIONS, str(error))


def _rows(path: Path, state: State) -> np.ndarray | None:
    try:
        return map_rows(path / EMBEDDINGS, state.count, state.info.dimension, state.info.dtype)
    except (OSError, ValueError):  # reported by `_check_embeddings`
        return None


def _is_there(path: Path) -> bool:
    """Return whether the file exists; text after a # is a position in a video."""
    return path.is_file() or ("#" in path.name and path.with_name(path.name.rpartition("#")[0]).is_file())


def _some(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:NAMED])) + (", …" if len(values) > NAMED else "")
