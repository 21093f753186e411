"""Is a gallery whole? Which file is not?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...common.replace_folder import recover
from ..storage import embeddings_file as vectors
from ..storage.metadata import FILE, State
from ..storage.records_file import FILE as RECORDS_FILE
from ..storage.records_file import Records
from .projection import FILE as PROJECTION_FILE
from .projection import Projection

NAMED = 5  # how many of many bad rows or files a message names


@dataclass(frozen=True)
class Problem:
    """Something wrong with a gallery.

    Args:
        file: the file that is wrong.
        message: what is wrong with it.
    """

    file: str
    message: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.file}: {self.message}"


def verify(path: str | Path, images: bool = True) -> list[Problem]:
    """Read a gallery from end to end and say what is wrong with which file; an empty list means nothing is.

    Args:
        images: also look whether the images are there.
    """
    path = Path(path).expanduser().resolve()
    recover(path)
    try:
        state = State.read(path)
    except (OSError, ValueError) as error:
        return [Problem(FILE, str(error))]
    return [*_check_projection(path, state), *_check_embeddings(path, state), *_check_records(path, state, images)]


def _check_projection(path: Path, state: State) -> Iterator[Problem]:
    if state.info.projection is None:
        return
    try:
        found = Projection.load(path)
    except (OSError, ValueError) as error:
        yield Problem(PROJECTION_FILE, str(error))
        return
    if found.fingerprint != state.info.projection:
        yield Problem(PROJECTION_FILE, f"is {found.fingerprint}, {FILE} asks for {state.info.projection}")


def _check_embeddings(path: Path, state: State) -> Iterator[Problem]:
    file, info = path / vectors.FILE, state.info
    try:
        rows = vectors.map_rows(file, state.count, info.dimension, info.dtype)
    except (OSError, ValueError) as error:
        yield Problem(vectors.FILE, str(error))
        return
    yield from _check_header(file, state)
    if vectors.checksum_of(rows) != state.checksum:
        yield Problem(
            vectors.FILE, f"the {state.count} rows are not those that were written (checksum); restore the file"
        )
    bad = [start + np.flatnonzero(~np.isfinite(part.astype(np.float32)).all(1)) for start, part in vectors.blocks(rows)]
    if len(found := np.concatenate([*bad, np.empty(0, np.int64)])):
        yield Problem(vectors.FILE, f"{len(found)} rows hold NaN or infinite values: {_some(found.tolist())}")


def _check_header(file: Path, state: State) -> Iterator[Problem]:
    """Check what other programs go by."""
    try:
        found = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        yield Problem(vectors.FILE, f"other programs cannot read it ({error}); the next add writes a new header")
        return
    expected = (state.info.dimension, np.dtype(state.info.dtype))
    if found.shape[1:] != expected[:1] or found.dtype != expected[1] or len(found) < state.count:
        yield Problem(
            vectors.FILE,
            f"its header says {found.shape} {found.dtype}, {FILE} says {(state.count, expected[0])} {expected[1]}",
        )


def _check_records(path: Path, state: State, images: bool) -> Iterator[Problem]:
    try:
        records = Records(path / RECORDS_FILE, state.count)
        table = records.read(["id", "path"])
    except (OSError, ValueError, pa.ArrowException) as error:
        yield Problem(RECORDS_FILE, str(error))
        return
    if not records.belongs_to(state.count, state.checksum):
        yield Problem(RECORDS_FILE, f"was written for other embeddings than {vectors.FILE}; restore both together")
    ids = table["id"].to_numpy()
    if (np.diff(ids) <= 0).any() or (len(ids) and ids[-1] >= state.next_id):
        yield Problem(RECORDS_FILE, f"ids must ascend and stay below {state.next_id}, as {FILE} says; restore the file")
    if unknown := sorted(set(state.removed) - set(ids.tolist())):
        yield Problem(FILE, f"{len(unknown)} of the removed ids are not in {RECORDS_FILE}: {_some(unknown)}")
    if images:
        yield from _check_images(path, table.filter(~np.isin(ids, state.removed))["path"].to_pylist())


def _check_images(path: Path, names: list[str]) -> Iterator[Problem]:
    missing = [name for name in dict.fromkeys(names) if not _is_there(path / name)]
    if missing:
        yield Problem(RECORDS_FILE, f"{len(missing)} images are not there: {_some(missing)}")


def _is_there(path: Path) -> bool:
    """Tell whether the file exists; what follows a # is a place in a video."""
    return path.is_file() or ("#" in path.name and path.with_name(path.name.rpartition("#")[0]).is_file())


def _some(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:NAMED])) + (", …" if len(values) > NAMED else "")
