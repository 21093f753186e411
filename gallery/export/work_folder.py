"""The work folder of an export: what is done already, part by part, so that a killed export goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ...common.errors import UserError
from ...common.files import write_atomically, write_text_atomically

PLAN, LOCK = "plan.json", ".lock"
_OWN = re.compile(r"plan\.json|part-\d+\.safetensors|\.(plan|part-).*\.tmp|\.lock|joined|converted|replaced")


@dataclass(frozen=True)
class Plan:
    """What decides every byte of an export; work done under another plan does not fit.

    Args:
        model: fingerprint of the embedder.
        source: what was given to be exported.
        rows: fingerprint of the source's rows.
        count: how many rows it has.
        dtype: of the embeddings, float32 or float16.
        batch_size: images per pass through the model.
        part_size: rows of one part, a multiple of `batch_size`.
        device, precision: what computes; another one rounds in another way.
        created: when the export began (ISO 8601); the only entry that may differ.
        files: for each part a fingerprint of the size and date of its images.
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
        """How many parts there are; the last may be short."""
        return -(-self.count // self.part_size)

    def size_of(self, number: int) -> int:
        """Return the rows of part `number`."""
        return min(self.part_size, self.count - number * self.part_size)

    def differences(self, other: Plan, files: bool = True) -> list[str]:
        """Return, for people, what `self` has and `other` has not; without `files` images may have been replaced."""
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
    def read(cls, file: Path) -> Plan | None:
        """Return the plan in a file, None if there is none that this version can read."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{**values, "files": tuple(values.get("files", ()))})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
            return None

    def write(self, file: Path) -> None:
        """Write the plan, atomically."""
        write_text_atomically(file, json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of the source's rows, embedded.

    Args:
        embeddings: (N, D) float32 or float16.
        records: N rows as a gallery keeps them.
        skipped: one line for each image that could not be read.
    """

    embeddings: np.ndarray
    records: list[dict[str, Any]]
    skipped: list[str]


class Work:
    """Parts in a folder; each is either whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other exports out of it; a killed process lets go by itself.

        Raises:
            BlockingIOError: another process is at work here; says which.
        """
        from ...common.locks import WriterLock

        self.folder.mkdir(exist_ok=True)
        with WriterLock(self.folder):
            yield

    @property
    def plan(self) -> Plan | None:
        """The plan under which the parts were made; None = there are none."""
        return Plan.read(self.folder / PLAN)

    def begin(self, plan: Plan, resume: bool = True, overwrite: bool = False) -> None:
        """Make the folder ready for `plan`; parts done under the same plan stay, unless `resume` is false.

        Parts of images that were replaced since stay too, and `has` tells them apart.

        Args:
            overwrite: parts of another plan give way.
        Raises:
            FileExistsError: the folder holds what no export makes.
            ValueError: it holds parts of another plan, and `overwrite` is false; says what differs.
        """
        if foreign := self.foreign():
            raise FileExistsError(f"{self.folder} is needed for the export and holds {foreign}, not ours; move it away")
        old = self.plan
        differences = old.differences(plan, files=False) if old else []
        if differences and resume and not overwrite:
            raise UserError(
                f"{self.folder} holds an unfinished export that differs: {'; '.join(differences)}. Finish that one, or "
                "start anew with --overwrite"
            )
        if old is None or differences or not resume:
            self._clear()
        plan.write(self.folder / PLAN)

    def foreign(self) -> str:
        """Return the name of something in the folder that no export makes, or nothing."""
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        return next((name for name in names if not _OWN.fullmatch(name)), "")

    def _clear(self) -> None:
        """Delete all but the lock; the plan first, without which the rest has no meaning."""
        (self.folder / PLAN).unlink(missing_ok=True)
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def remove(self) -> None:
        """Remove the folder and all in it, if it is there and ours; the plan late, since it says whose the rest is."""
        if self.folder.is_dir() and not self.foreign():
            for path in sorted(self.folder.iterdir()):
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name not in (PLAN, LOCK):
                    path.unlink()
            shutil.rmtree(self.folder)

    def remove_rest(self, plan: Plan) -> None:
        """Remove what an export under `plan`, finished by now, left when it was killed; leave another's work alone."""
        if not self.folder.is_dir():
            return
        with contextlib.suppress(BlockingIOError), self.locked():
            found = self.plan
            is_rest = not found.differences(plan) if found else not set(os.listdir(self.folder)) - {LOCK}
            if is_rest:
                self.remove()

    def has(self, number: int, plan: Plan, with_gaps: bool = False) -> bool:
        """Tell whether the part is done, and its images are those of the plan.

        Args:
            with_gaps: whether it may lack images that could not be read.
        """
        try:
            with safe_open(self._file(number), "np") as opened:
                about = opened.metadata() or {}
        except (OSError, SafetensorError):  # not there, or damaged
            return False
        is_whole = about.get("skipped") == "0"
        return about.get("files") == plan.files[number] and (is_whole or with_gaps)

    def save(self, number: int, part: Part, plan: Plan) -> None:
        """Write part `number` of the plan, atomically."""
        texts = json.dumps([part.records, part.skipped]).encode()
        tensors = {"embeddings": part.embeddings, "rows": np.frombuffer(texts, np.uint8)}
        about = {"files": plan.files[number], "skipped": str(len(part.skipped))}
        write_atomically(self._file(number), lambda temporary: save_file(tensors, temporary, about))

    def load_embeddings(self, number: int) -> np.ndarray:
        """Return the (N, D) embeddings of a part; raise ValueError if it is missing or damaged."""
        return self._load(number, "embeddings")

    def load_records(self, number: int) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the records of a part and what it left out; raise ValueError if it is missing or damaged."""
        records, skipped = json.loads(self._load(number, "rows").tobytes())
        return records, skipped

    def _load(self, number: int, name: str) -> np.ndarray:
        file = self._file(number)
        try:
            with safe_open(file, "np") as opened:
                return opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{file} is missing or damaged ({error}); delete it if it is there, and run the export again. Under "
                "torchrun all processes need the same disk"
            ) from error

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.safetensors"
