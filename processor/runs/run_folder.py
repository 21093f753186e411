"""The folder of one run (config.yml, log.txt, metrics.jsonl, events, last.pth, best.safetensors), and the terminal's log."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from ...common.files import append_text, write_text_atomically
from ...common.inputs.regular_files import JSON_BYTES, open_own, read_text
from ...common.text import parse_json, plain_values, printable
from .checkpoint import rotated
from .run_lock import FolderLock
from .trackers import RUN_IDS, OpenTrackers

LOGGER = logging.getLogger("vitreid")
ROUNDS, CLUSTERS = "rounds.csv", "clusters.csv"  # of training without labels
PRETRAINED, PRETRAINING_EPOCHS = "pretrained.safetensors", "pretraining.csv"  # of self-supervised pre-training
TEACHER = "teacher.safetensors"  # of LOSS.DISTILL; a run that replaces this one may have the same, so it stays
REPORT_PICTURES = frozenset(  # every PNG file that a report may write into report_pictures
    f"{name}.png"
    for name in (
        *("accuracy-cmc", "distances", "cameras-map", "map-people", "map-cameras"),
        *("training-loss", "training-map", "training-accuracy", "training-rate"),
        *("rounds-clusters", "rounds-shares", "clusters-fitting", "clusters-mixed", "clusters-pure", "clusters-impure"),
        *("queries-hardest", "queries-best", "queries-differences"),
        *("attention", "parts", "positions", "side-rows", "side-before", "side-after"),
    )
)


class RunFolder:
    """Names the files of a run and writes its logs; locked for other processes until it is closed.

    Args:
        path: made if it does not exist.
    Raises:
        NotADirectoryError: `path`, or a folder above it, is a file.
        FileExistsError: another process is training into it.
    """

    RESULTS = ("last.pth", "best.safetensors", "metrics.jsonl")  # any of them makes the folder a run
    FILES = (
        *(*RESULTS, "metrics.json", "config.yml", "report.html", ROUNDS, CLUSTERS, RUN_IDS),
        *(PRETRAINED, PRETRAINING_EPOCHS),
    )

    def __init__(self, path: str | Path) -> None:
        self._name_files(path)
        self._is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(f"OUTPUT_DIR: {path} is, or lies under, a file; choose another folder") from None
        self._lock = FolderLock(self.path / ".lock")
        self._lock.acquire()
        try:
            self._handler = _LogFile(self.path / "log.txt")  # appends to that of an earlier run
        except BaseException:
            self._lock.release()
            raise
        self._handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(self._handler)
        self._events: Any = None
        self._trackers: OpenTrackers | None = None

    def _name_files(self, path: str | Path) -> None:
        self.path = Path(path)
        self.last, self.best = self.path / "last.pth", self.path / "best.safetensors"
        self.metrics = self.path / "metrics.jsonl"

    def discard(self) -> None:
        """Remove the folder again if it is new and holds only a log: the run did not start. After `close`."""
        log = self.path / "log.txt"
        if self._is_new and [item.name for item in self.path.iterdir()] == [log.name]:
            log.unlink()
            self.path.rmdir()

    def refuse_another_run(self) -> None:
        """Raise FileExistsError if the folder already holds a run."""
        found = [name for name in self.RESULTS if (self.path / name).exists()]
        if found:
            raise FileExistsError(
                f"OUTPUT_DIR: {self.path} already holds a run ({', '.join(found)}); continue it with --resume, "
                "replace it with --overwrite, or choose another OUTPUT_DIR"
            )

    def clear(self) -> None:
        """Remove an earlier run's files, its report and pictures included; log.txt and other files stay."""
        found = [self.path / name for name in self.FILES]
        for path in (*found, *rotated(self.path), *self.path.glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)
        self._clear_pictures()

    def _clear_pictures(self) -> None:
        folder = self.path / "report_pictures"
        if folder.is_symlink() or not folder.is_dir():
            return
        for name in REPORT_PICTURES:
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()

    def write_config(self, text: str) -> None:
        """Write the resolved config as YAML text."""
        write_text_atomically(self.path / "config.yml", text)

    def open_trackers(self, names: Sequence[str], project: str, options: Mapping[str, Any]) -> None:
        """Send the numbers of the following epochs to trackers, too; a resumed run continues its runs there.

        Raises:
            UserError: a tracker cannot be opened.
        """
        self._trackers = OpenTrackers(names, project, self.path, options)

    def keep_epochs(self, epochs: int) -> None:
        """Remove the metrics of epochs after `epochs`; a resumed run computes them again."""
        if self.metrics.exists():
            kept = [json.dumps(row) for row in self._rows() if row["epoch"] <= epochs]
            write_text_atomically(self.metrics, "".join(row + "\n" for row in kept))

    def has_epoch(self, epoch: int) -> bool:
        """Return whether metrics.jsonl has the numbers of `epoch`."""
        return any(row["epoch"] == epoch for row in self._rows())

    def evaluations_since_best(self) -> int:
        """Return the number of evaluations after the one with the highest mAP, the first of them if several have it."""
        found = [row["mAP"] for row in self._rows() if isinstance(row.get("mAP"), (int, float))]
        return len(found) - 1 - found.index(max(found)) if found else 0

    def mean_precisions(self) -> dict[int, float]:
        """Return the mAP after each epoch that was evaluated."""
        return {row["epoch"]: row["mAP"] for row in self._rows() if isinstance(row.get("mAP"), (int, float))}

    def epoch_rows(self) -> list[dict[str, Any]]:
        """Return what was logged of each epoch."""
        return self._rows()

    def _rows(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a killed process may have left half a line."""
        if not self.metrics.exists():
            return []
        rows = map(_row, read_text(self.metrics, JSON_BYTES, errors="replace").splitlines())
        return [row for row in rows if row is not None]

    def write_epoch(self, row: Mapping[str, float]) -> None:
        """Append one epoch's numbers to metrics.jsonl and to the TensorBoard events.

        Raises:
            OSError: metrics.jsonl cannot be written; names it.
        """
        line = json.dumps(plain_values(row)) + "\n"
        try:
            append_text(self.metrics, line)
        except OSError as error:
            raise OSError(f"cannot write {self.metrics}: {error}; free some space, then --resume") from error
        for name, value in row.items():
            self._writer().add_scalar(name, value, row["epoch"])
        self._writer().flush()
        if self._trackers is not None:
            self._trackers.log(row)

    def _writer(self) -> Any:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import: only when used

            self._events = SummaryWriter(str(self.path))
        return self._events

    def close(self) -> None:
        """Close the log and the events and release the lock; the folder is complete without it."""
        LOGGER.removeHandler(self._handler)
        self._handler.close()
        if self._events is not None:
            self._events.close()
        if self._trackers is not None:
            self._trackers.finish()
        self._lock.release()


def _row(line: str) -> dict[str, Any] | None:
    """Return a line of metrics.jsonl; None if it is broken, as in `report.collect.read_epochs`."""
    try:
        row = parse_json(line, "metrics.jsonl")
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("epoch"), int) else None


class ReadOnlyFolder(RunFolder):
    """A run's folder for the ranks that do not write: it names the files."""

    def __init__(self, path: str | Path) -> None:
        self._name_files(path)

    def _leave_to_first_rank(self, *_: Any, **__: Any) -> None:
        """Rank 0 does it."""

    refuse_another_run = discard = clear = write_config = keep_epochs = write_epoch = close = _leave_to_first_rank  # type: ignore[assignment]
    open_trackers = _leave_to_first_rank  # type: ignore[assignment]


class PrintableFormatter(logging.Formatter):
    """Shows control characters, as they may stand in names, as their codes: a terminal would obey them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return printable(super().format(record))


class _LogFile(logging.FileHandler):
    """Appends to a file; never through a link of its name."""

    def _open(self) -> Any:
        handle = open_own(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace")


class _ProgressBarHandler(logging.StreamHandler):
    """Prints above a running progress bar; warnings go to stderr, so that they do not mix with a tool's JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout)


def log_to_console() -> None:
    """Send the package's log to the terminal, on rank 0 only; called once by the command-line tools."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    if os.environ.get("RANK", "0") != "0":
        LOGGER.addHandler(logging.NullHandler())  # without any handler Python would print warnings
        return
    if not any(isinstance(handler, _ProgressBarHandler) for handler in LOGGER.handlers):
        handler = _ProgressBarHandler()
        handler.setFormatter(PrintableFormatter("%(message)s"))
        LOGGER.addHandler(handler)
