"""decisions.jsonl: what people have decided about the rows of a gallery, one line of JSON per decision; lines are only added.

Rows are named by their keys (`row_keys`), so a decision outlives compaction, merging and a new export of the same images.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from ...common.errors import UserError
from ...common.inputs.regular_files import TABLE_BYTES, open_own
from ...common.locks import WriterLock
from ...common.replace_folder import read_through, recover
from ..storage.file_names import DECISIONS, replaced_files
from .row_keys import KEY_BYTES

logger = logging.getLogger(__name__)
SAME, DIFFERENT, UNSURE, MERGE, SPLIT, MOVE, NAME, ENROL, UNDO = KINDS = (
    *("same", "different", "unsure", "merge", "split", "move", "name", "enrol", "undo"),
)
MOST_ROWS, MOST_TEXT = 1000, 200  # rows of a decision, characters of a name
PAUSE, PATIENCE = 0.02, 10.0  # seconds: between two attempts to make the file, in all
REMEDY = "restore the file from a copy, or correct the line"
_KEY, _ID = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}"), re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return the id of a new decision: 32 random hexadecimal digits."""
    return secrets.token_hex(16)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Decision:
    """Something a person has decided.

    Args:
        kind: one of KINDS.
        who: name of the person, printable.
        rows: keys of rows, 32 hexadecimal digits each. same, merge: they show one person. different, unsure: two rows that show two
            people, or perhaps one. split: they show one person, who is not in any of `others`. move: they show the person of
            `to` and not those of `others`. name: one row of the person who gets the name. enrol: rows that were added from images
            of one person, who has the name.
        others: keys of the rows that a split or a move leaves behind.
        to: key of a row of the person that rows are moved to.
        name: of the person.
        of: id of the decision that an undo takes back.
        id: 32 hexadecimal digits; a decision is written once, however often it is sent.
        time: ISO 8601, UTC.
    Raises:
        UserError: a field is missing, of the wrong form, or does not belong to the kind.
    """

    kind: str
    who: str
    rows: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    to: str | None = None
    name: str | None = None
    of: str | None = None
    id: str = field(default_factory=new_id)
    time: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"kind: unknown decision {self.kind!r}; choose from {', '.join(KINDS)}")
        for name in ("who", "name"):
            if (text := getattr(self, name)) is not None:
                check_name(name, text)
        for name, pattern in (("id", _ID), ("of", _ID), ("to", _KEY)):
            if (text := getattr(self, name)) is not None and not pattern.fullmatch(text):
                raise UserError(f"{name}: expected 32 hexadecimal digits, got {text[:80]!r}")
        for name in ("rows", "others"):
            keys = getattr(self, name)
            if len(keys) > MOST_ROWS or not all(_KEY.fullmatch(key) for key in keys):
                raise UserError(f"{name}: up to {MOST_ROWS} keys of 32 hexadecimal digits, got {len(keys)} values")
        self._check_fields()

    def _check_fields(self) -> None:
        """Check that the decision has the fields of its kind, and no others."""
        least, most = {
            SAME: (2, MOST_ROWS),
            MERGE: (2, MOST_ROWS),
            DIFFERENT: (2, 2),
            UNSURE: (2, 2),
            SPLIT: (1, MOST_ROWS),
            MOVE: (1, MOST_ROWS),
            NAME: (1, 1),
            ENROL: (1, MOST_ROWS),
            UNDO: (0, 0),
        }[self.kind]
        if not least <= len(self.rows) <= most or len(set(self.rows)) < len(self.rows):
            raise UserError(f"rows: {self.kind} takes {least} to {most} different rows, got {len(self.rows)}")
        if set(self.others) & {*self.rows, self.to}:
            raise UserError("others: a row that the decision is about is also among those left behind")
        wanted = {
            "others": self.kind == SPLIT or (None if self.kind == MOVE else False),
            "to": self.kind == MOVE,
            "name": self.kind in (NAME, ENROL),
            "of": self.kind == UNDO,
        }
        for name, is_wanted in wanted.items():
            if is_wanted is not None and bool(getattr(self, name)) != is_wanted:
                raise UserError(f"{name}: {self.kind} {'needs it' if is_wanted else 'does not have it'}")
        if self.to in self.rows:
            raise UserError("to: a row cannot be moved to itself")

    @property
    def keys(self) -> tuple[str, ...]:
        """All rows that are named."""
        return (*self.rows, *self.others, *([self.to] if self.to else []))

    def line(self) -> bytes:
        """Return the line of the file, with its end."""
        values = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(values, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Decision:
        """Return the decision of a line; raise UserError or ValueError if it is none. Fields of later versions are left out."""
        values = json.loads(line)
        if not isinstance(values, dict) or not {"id", "time", "kind", "who"} <= set(values):
            raise UserError("not a decision: id, time, kind or who is missing")
        known: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        for name in ("rows", "others"):
            keys = known.get(name, [])
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise UserError(f"{name}: expected a list of keys")
            known[name] = tuple(keys)
        if wrong := [name for name, value in known.items() if not isinstance(value, str | tuple)]:
            raise UserError(f"{wrong[0]}: expected a text")
        return cls(**known)


def check_name(field_name: str, text: str) -> str:
    """Return a name of a person without spaces at its ends; raise UserError if it is empty, too long or not printable."""
    text = text.strip()
    if not text or len(text) > MOST_TEXT or not text.isprintable():
        raise UserError(f"{field_name}: 1 to {MOST_TEXT} printable characters, got {text[:80]!r}")
    return text


class DecisionFile:
    """The decisions of a gallery, for several threads, processes and machines that share the folder.

    Args:
        folder: of the gallery.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / DECISIONS
        self._known: list[Decision] = []
        self._ids: set[str] = set()
        self._end = 0  # bytes read
        self._file: tuple[int, int] | None = None
        self._lock = threading.RLock()

    def read(self) -> Sequence[Decision]:
        """Return all decisions, oldest first; only new lines are read. A last line that was cut off is left out and logged.

        Raises:
            UserError: a line is damaged; names it.
        """
        with self._lock:
            try:
                handle = read_through(self.path, replaced_files, lambda: open_own(self.path, os.O_RDONLY))
            except FileNotFoundError:
                self._forget(None)
                return ()
            try:
                rest = self._read_new(handle)
            finally:
                os.close(handle)
            if rest:
                logger.debug("%s: another process is writing a line, or was killed while it did", self.path)
            return tuple(self._known)

    def append(
        self, decisions: Sequence[Decision], check: Callable[[Sequence[Decision]], object] = lambda _: None
    ) -> int:
        """Write decisions, all of them or none; when this returns they are on the disk. Return how many are new by their id.

        Args:
            check: called with all earlier decisions while nobody else can write; what it raises keeps the new ones out.
        Raises:
            OSError: the disk is full, or nothing can be written there; the file is as it was before.
            UserError: an earlier line is damaged; names it.
        """
        with self._lock, self._opened() as handle:
            rest = self._read_new(handle)
            new = [one for one in decisions if one.id not in self._ids]
            if not new:
                return 0
            check(tuple(self._known))
            if rest:
                self._mend(handle, rest)
            content = b"".join(one.line() for one in new)
            try:
                os.lseek(handle, self._end, os.SEEK_SET)
                if os.write(handle, content) < len(content):
                    raise OSError(f"cannot write {self.path}: no space left; free some space")
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, self._end)
                raise
            self._take(new, len(content))
        return len(new)

    def _take(self, new: Sequence[Decision], num_bytes: int) -> None:
        self._known += new
        self._ids.update(one.id for one in new)
        self._end += num_bytes

    def _forget(self, file: tuple[int, int] | None) -> None:
        self._known, self._ids, self._end, self._file = [], set(), 0, file

    def _read_new(self, handle: int) -> bytes:
        """Read the lines that were added since; return what follows the last complete one."""
        status = os.fstat(handle)
        if self._file != (status.st_dev, status.st_ino) or status.st_size < self._end:
            self._forget((status.st_dev, status.st_ino))
        if status.st_size > TABLE_BYTES:
            raise UserError(f"{self.path} has more than {TABLE_BYTES:,} bytes; is it the right file?")
        os.lseek(handle, self._end, os.SEEK_SET)
        content = bytearray()
        while part := os.read(handle, 2**20):
            content += part
        lines, found = bytes(content).split(b"\n"), []
        rest = lines.pop()
        for number, line in enumerate(lines, len(self._known) + 1):
            try:
                found.append(Decision.of_line(line))
            except ValueError as error:
                raise UserError(f"{self.path}: line {number} is damaged ({error}); {REMEDY}") from error
        self._take(found, len(content) - len(rest))
        return rest

    def _mend(self, handle: int, rest: bytes) -> None:
        """Complete the last line if only its end is missing, or cut it off: its writer was never answered."""
        try:
            complete = Decision.of_line(rest)
        except ValueError:
            logger.warning("%s: the last line was cut off (%d bytes); it is removed", self.path, len(rest))
            os.ftruncate(handle, self._end)
            return
        logger.warning("%s: the last line was cut off at its end; it is kept", self.path)
        os.lseek(handle, 0, os.SEEK_END)
        os.write(handle, b"\n")
        self._take([complete], len(rest) + 1)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield a handle of the file, locked, and made if it does not exist."""
        until = time.monotonic() + PATIENCE
        while True:
            recover(self.path.parent, replaced_files)
            try:
                handle = open_own(self.path, os.O_RDWR)
            except FileNotFoundError:
                self._make(until)
                continue
            try:
                lock_descriptor(handle, poll_interval=PAUSE)
                yield handle  # also while its folder is replaced: the file itself is moved into the new folder
            finally:
                os.close(handle)
            return

    def _make(self, until: float) -> None:
        """Make the file while no other process replaces the folder, which would bring the earlier file along."""
        try:
            with WriterLock(self.path.parent):
                recover(self.path.parent, replaced_files)
                os.close(open_own(self.path, os.O_RDWR | os.O_CREAT))
                _sync_folder(self.path.parent)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def _sync_folder(folder: Path) -> None:
    """Wait until the name of a new file has reached the disk, where the system can do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_over(target: Path, source: Path) -> int:
    """Add the decisions of the gallery in `source` to those in `target`; return how many are new."""
    decisions = DecisionFile(source).read()
    return DecisionFile(target).append(decisions) if decisions else 0
