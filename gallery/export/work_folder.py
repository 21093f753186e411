"""The work folder of an export: the finished parts, from which a killed export resumes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from ...common.errors import UserError
from ...common.files import write_atomically
from ...common.inputs.safetensors_file import open_safetensors
from ...common.locks import FILE as LOCK
from ...common.locks import WriterLock
from ...common.replace_folder import refuse_link
from ...common.text import parse_json
from ..keeping.suppress_list import KEPT_OUT
from ..storage.file_names import TRACK_CROPS
from ..storage.gallery import Gallery
from ..storage.records_file import with_ids
from ..storage.row_ids import Ids
from .export_plan import ExportPlan, Plan, read_plan

logger = logging.getLogger(__name__)

PLAN = "plan.json"
JOIN_ROWS = 2**20  # records added to the gallery at once: each time it rewrites all of them
_OWN = re.compile(
    r"plan\.json|part-\d+\.safetensors|video-\d+(\.npz|-\d+\.safetensors)|\.(plan|part-|video-).*\.tmp|\.lock|"
    r"joined|converted|replaced"
)


@dataclass(frozen=True, eq=False)
class ExportPart:
    """Consecutive rows of the source, embedded.

    Args:
        embeddings: (N, D) float32 or float16.
        records: N records.
        skipped: one line per image that could not be read.
    """

    embeddings: np.ndarray
    records: list[dict[str, Any]]
    skipped: list[str]


@dataclass(frozen=True, eq=False)
class FinishedPart:
    """A part that waits in a work folder.

    Args:
        records: N records without ids.
        load: returns the embeddings (N, D).
        skipped: one line per image that could not be read.
        images: returns (name in the gallery's folder, content) of thumbnails.
    """

    records: pa.Table
    load: Callable[[], np.ndarray]
    skipped: Sequence[str] = ()
    images: Callable[[], list[tuple[str, bytes]]] = list


class PartsCount(NamedTuple):
    """What became of the rows of parts: how many were added and left out, and a line per image that could not be read."""

    added: int
    left_out: int
    skipped: list[str]


def append_parts(
    gallery: Gallery,
    parts: Iterable[FinishedPart],
    choose: Callable[[pa.Table], np.ndarray],
    at_once: bool = False,
    replaced: Callable[[], Ids] = tuple,
) -> PartsCount:
    """Append parts to a gallery, with the embeddings of one part in memory at a time.

    Args:
        choose: records (n) -> (n,) bool, those to be added.
        at_once: commit all of them together; otherwise JOIN_ROWS and more at a time, with fewer records in memory.
        replaced: returns the ids of rows whose place the new ones take; called before a commit.
    """
    skipped: list[str] = []
    added = left_out = 0
    waiting: list[tuple[FinishedPart, np.ndarray, pa.Table]] = []

    def commit() -> None:
        rows = (gallery.encoded(part.load()[chosen]) for part, chosen, _ in waiting if chosen.any())
        gallery.append(rows, [table for *_, table in waiting], replaced())

    first = gallery.state.next_id
    for part in parts:
        chosen = choose(part.records)
        records = part.records.filter(pa.array(chosen))
        write_images(gallery.path, part.images(), part.records if chosen.all() else records)
        waiting.append((part, chosen, with_ids(records, np.arange(first, first + len(records)))))
        first, added, left_out = first + len(records), added + len(records), left_out + int((~chosen).sum())
        skipped += part.skipped
        if not at_once and sum(len(table) for *_, table in waiting) >= JOIN_ROWS:
            commit()
            waiting = []
    if waiting and (not at_once or added):
        gallery.check_cameras([table for *_, table in waiting])
        commit()
    return PartsCount(added, left_out, skipped)


def log_left_out(path: Path, count: PartsCount) -> None:
    """Log how many rows were left out because they were removed from the gallery at `path` earlier."""
    if count.left_out:
        logger.warning(KEPT_OUT, path, count.left_out, count.added + count.left_out)


def write_images(folder: Path, images: Iterable[tuple[str, bytes]], records: pa.Table) -> None:
    """Write the thumbnails of the tracks that records show; the name of a crop ends with its frame, "-000012.jpg"."""
    images = list(images)
    tracks = {Path(path).stem.rpartition("-")[0] for path in records["path"].to_pylist()} if images else set()
    for name, content in images:
        if Path(name).stem.rpartition("-")[0] in tracks:
            (folder / TRACK_CROPS).mkdir(exist_ok=True)
            (folder / TRACK_CROPS / Path(name).name).write_bytes(content)


class WorkFolder:
    """A folder of unfinished work, and the plan that it belongs to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locked(self) -> WriterLock:
        """Make the folder and return its lock against other exports; the lock of a killed process is free."""
        refuse_link(self.folder)
        self.folder.mkdir(exist_ok=True)
        return WriterLock(self.folder)

    @property
    def plan(self) -> Plan | None:
        """The plan of the parts in the folder; None = there are none."""
        return read_plan(self.folder / PLAN)

    def begin(self, plan: Plan, resume: bool = True, overwrite: bool = False) -> None:
        """Prepare the folder for `plan`; parts of the same plan stay, unless `resume` is false.

        Parts of images that were replaced since stay too; `has` recognises them.

        Args:
            overwrite: delete parts of another plan.
        Raises:
            FileExistsError: the folder holds other files.
            ValueError: it holds parts of another plan, and `overwrite` is false; names the differences.
        """
        if foreign := self.foreign():
            raise FileExistsError(f"{self.folder} is needed for the export and holds {foreign}, not ours; move it away")
        old = self.plan
        differences = old.differences(plan, files=False) if old else []
        if differences and resume and not overwrite and self._has_parts():
            raise UserError(
                f"{self.folder} holds an unfinished export that differs: {'; '.join(differences)}. Finish that one, or "
                "start anew with --overwrite"
            )
        if old is None or differences or not resume:
            (self.folder / PLAN).unlink(missing_ok=True)  # first, since parts without a plan are never reused
            self._delete_parts()
        plan.write(self.folder / PLAN)

    def foreign(self) -> str:
        """Return the name of a file in the folder that is not of an export, "" if there is none."""
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        return next((name for name in names if not _OWN.fullmatch(name)), "")

    def _has_parts(self) -> bool:
        """Whether anything was saved that another plan would delete; a call that was refused at its start saves nothing."""
        return any(path.is_file() and path.name not in (PLAN, LOCK) for path in self.folder.rglob("*"))

    def _delete_parts(self) -> None:
        """Delete all files except the plan and the lock."""
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (PLAN, LOCK):
                path.unlink()

    def remove(self) -> None:
        """Remove the folder if it exists and holds only files of an export; the plan last, since it identifies the parts."""
        if self.folder.is_dir() and not self.foreign():
            self._delete_parts()
            shutil.rmtree(self.folder)

    def remove_rest(self, plan: Plan) -> None:
        """Remove the remains of a killed call of the finished export `plan`; parts of another plan stay."""
        if not self.folder.is_dir():
            return
        with contextlib.suppress(BlockingIOError), self.locked():
            found = self.plan
            is_rest = not found.differences(plan) if found else not set(os.listdir(self.folder)) - {LOCK}
            if is_rest:
                self.remove()


class PartsFolder(WorkFolder):
    """The parts of an export of images; each is either complete or absent."""

    def has(self, number: int, plan: ExportPlan, with_gaps: bool = False) -> bool:
        """Return whether the part is finished and its image files are those of the plan.

        Args:
            with_gaps: accept a part without the images that could not be read.
        """
        try:
            with open_safetensors(self._file(number), "np") as opened:
                about = opened.metadata() or {}
        except (OSError, UserError):  # missing or damaged
            return False
        is_whole = about.get("skipped") == "0"
        return about.get("files") == plan.files[number] and (is_whole or with_gaps)

    def save(self, number: int, part: ExportPart, plan: ExportPlan) -> None:
        """Write part `number` of the plan, atomically."""
        texts = json.dumps([part.records, part.skipped]).encode()
        tensors = {"embeddings": part.embeddings, "rows": np.frombuffer(texts, np.uint8)}
        about = {"files": plan.files[number], "skipped": str(len(part.skipped))}
        write_atomically(self._file(number), lambda temporary: save_file(tensors, temporary, about))

    def parts(self, plan: ExportPlan, schema: pa.Schema) -> Iterator[FinishedPart]:
        """Yield all parts of the plan.

        Args:
            schema: columns of the records.
        """
        for number in range(plan.num_parts):
            records, unread = parse_json(self._load(number, "rows").tobytes(), str(self._file(number)))
            table = pa.Table.from_pylist(records, schema).drop_columns("id")
            yield FinishedPart(table, partial(self._load, number, "embeddings"), unread)

    def _load(self, number: int, name: str) -> np.ndarray:
        """Return the embeddings (N, D) of a part, or its rows as `save` writes them; an error names the part's file."""
        file = self._file(number)
        try:
            with open_safetensors(file, "np") as opened:
                return opened.get_tensor(name)
        except (OSError, UserError) as error:
            raise UserError(
                f"{file} is missing or damaged ({error}); delete it, if it exists, and run the export again. Under "
                "torchrun all processes need the same disk"
            ) from error

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.safetensors"
