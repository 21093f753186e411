"""A folder of drawn files, complete or absent. Its marker has the plan and the digest of each file; only those are ever deleted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.files import digest
from ...common.inputs.regular_files import read_bytes, read_json
from ...common.locks import FILE as LOCK
from ...common.locks import WriterLock
from ...common.replace_folder import locked_place, recover, replacement

_WAIT, _PATIENCE = 0.2, 600  # seconds: between two looks at a folder that another process draws; in all

Draw = Callable[[Path], dict[str, str]]  # draws into an empty folder; name in it -> digest of each file


@dataclass(frozen=True)
class DrawnFolder:
    """Where something is drawn, and how its own files are known.

    Args:
        path: the folder.
        marker: name of the file that makes it complete.
        facts: what the marker says of the plan, in JSON types.
        parts: the folders below it, such as "query" or "a/gt"; "" = files in the folder itself.
        limit: most bytes of one file.
        what: a noun for messages, such as "a synthetic data set"; hint: what to do if the folder holds other files.
    """

    path: Path
    marker: str
    facts: dict[str, Any]
    parts: tuple[str, ...]
    limit: int
    what: str
    hint: str

    @property
    def is_done(self) -> bool:
        """Whether the folder is complete and of this plan."""
        return {key: value for key, value in self._read(self.path).items() if key != "files"} == self.facts

    def make(self, draw: Draw) -> None:
        """Draw, unless the folder is complete. An interrupted call leaves nothing incomplete.

        Raises:
            FileExistsError: the folder holds other files.
            BlockingIOError: another process has been drawing for 10 minutes.
        """
        until = time.monotonic() + _PATIENCE
        recover(self.path, self._own_files)
        while not self.is_done:
            try:
                with locked_place(self.path, self._own_files) as lock:
                    self._draw_into(lock, draw)
            except BlockingIOError:  # another process, such as another rank, draws it
                if time.monotonic() > until:
                    raise
                time.sleep(_WAIT)
            finally:
                with suppress(OSError):  # only an empty folder is removed
                    self.path.rmdir()

    def _draw_into(self, lock: WriterLock, draw: Draw) -> None:
        """Replace the content of the locked folder, if all of it was drawn by `make`."""
        if self.is_done:
            return
        if foreign := sorted(self._all_files(self.path) - self._own_files(self.path)):
            raise FileExistsError(
                f"{self.path}: {foreign[0]} is not of {self.what} drawn by vitreid ({len(foreign)} such files), so nothing is "
                f"drawn there; {self.hint}"
            )
        with replacement(self.path, lock, self._own_files) as started:
            files = draw(started)
            (started / self.marker).write_text(json.dumps({**self.facts, "files": files}, indent=1))

    def _read(self, folder: Path) -> dict[str, Any]:
        """Return the content of a folder's marker; empty if there is none, or an unreadable one."""
        try:
            found = read_json(folder / self.marker)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _all_files(self, folder: Path) -> set[str]:
        """Return everything in the folder and below but its parts, as paths in it; an empty folder of another name too."""
        names = set()
        for place, folders, files in os.walk(folder):
            inside = Path(place).relative_to(folder)
            links = [name for name in folders if os.path.islink(os.path.join(place, name))]
            foreign = [name for name in folders if not self._is_part((inside / name).as_posix())]
            names |= {(inside / name).as_posix() for name in (*files, *links, *foreign)}
        return names

    def _is_part(self, name: str) -> bool:
        """Whether a folder is one of the parts, or one above a part."""
        return any(f"{part}/".startswith(f"{name}/") for part in self.parts)

    def _own_files(self, folder: Path) -> set[str]:
        """Return the files in the folder that were drawn and nobody changed: those of the marker, with its digests."""
        drawn = self._read(folder).get("files")
        if not isinstance(drawn, dict):
            return {LOCK}
        possible = [name for name in drawn if ".." not in name and name.rpartition("/")[0] in self.parts]
        own = {name for name in possible if self._digest_of(folder / name) == drawn[name]}
        return {*own, self.marker, LOCK}

    def _digest_of(self, file: Path) -> str:
        """Return the digest of a file's content; "" for a link, or if it is gone."""
        try:
            return "" if file.is_symlink() else digest([read_bytes(file, self.limit)])
        except (OSError, ValueError):
            return ""
