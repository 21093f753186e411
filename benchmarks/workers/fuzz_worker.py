"""Reads changed files in a separate process: `python benchmarks/workers/fuzz_worker.py FOLDER SEED`.

Each line of its input is a kind and a number; its answer is one line of JSON: what came of that reading. It never writes outside
FOLDER; whatever a reader opens for writing elsewhere, starts or connects to is in the answer.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import IO, Any

import cv2

from vitreid.benchmarks.attacks.mutations import mutate
from vitreid.benchmarks.attacks.stranger_files import FILES, sample_of
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.common.errors import MissingPackageError, UserError
from vitreid.common.inputs import reading_process

ADDRESS_SPACE = 4 * 2**30  # bytes that a process may reserve beyond those it has when it starts to read
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.rmtree",
}
STARTS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "pty.spawn",
}


KEYED = ("request", "config", "gallery: gallery.json")  # kinds whose errors may name a field or a key instead


class Watch:
    """Notes what happens outside the folders while a file is read."""

    def __init__(self, *folders: Path) -> None:
        self.allowed = (*(str(folder) for folder in folders), "/dev/null", "/proc/self/", "pipe:", "socket:")
        self.is_on, self.seen = False, [""][:0]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in STARTS and not is_reading_process(event, given):
            self.seen.append(f"{event} {str(given[:2])[:200]}")
        elif event in CHANGES or (event == "open" and isinstance(given[2], int) and given[2] & WRITES):
            path = given[0]
            if isinstance(path, (str, bytes, os.PathLike)) and not os.path.abspath(os.fsdecode(path)).startswith(
                self.allowed
            ):
                self.seen.append(f"{event} {os.fsdecode(path)[:200]}")


def is_reading_process(event: str, given: tuple[Any, ...]) -> bool:
    """Return whether what is started is the script that reads a file in a process without rights to write."""
    return event == "subprocess.Popen" and str(reading_process.SCRIPT) in given[1]


def read_changed(kind: str, number: int, seed: int, folder: Path, samples: Samples, watch: Watch) -> dict[str, Any]:
    """Return what came of one reading: seconds, bytes of memory, and what is wrong ("" = nothing)."""
    rng = Random(f"{seed} {kind} {number}")  # nosec B311: changes, no secrets
    path = samples.copy(kind, folder)
    path.write_bytes(mutate(path.read_bytes(), FILES[kind].form, rng, samples.contents))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from VmRSS
    before, start, wrong, text = status_bytes("VmRSS") or 0, time.process_time(), "", ""
    watch.seen.clear()
    watch.is_on = True
    try:
        FILES[kind].read(path)
    except (UserError, OSError, MissingPackageError) as error:
        text = str(error)
        if not kind.startswith(KEYED) and path.name not in text and path.parent.name not in text:
            wrong = f"{type(error).__name__} names no file: {text[:200]}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)
        own = [one for one in place if "vitreid" in one.filename and "benchmarks" not in one.filename] or list(place)
        wrong = f"{type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}: {str(error)[:200]}"
    finally:
        watch.is_on = False
    if watch.seen:
        wrong = f"outside of its folder: {watch.seen[0]}"
    seconds, peak = time.process_time() - start, (status_bytes("VmHWM") or 0) - before
    return {"seconds": seconds, "bytes": max(0, peak), "refused": bool(text), "wrong": wrong}


class Samples:
    """A sound file of each kind, made once, and copied for each reading."""

    def __init__(self, folder: Path) -> None:
        self._paths = {kind: sample_of(kind, folder / str(number)) for number, kind in enumerate(FILES)}
        self._folder = folder
        self.contents = [path.read_bytes() for path in self._paths.values()]

    def copy(self, kind: str, folder: Path) -> Path:
        """Return the path of a copy in a new folder below `folder`."""
        path = self._paths[kind].relative_to(self._folder)
        shutil.copytree(self._folder / path.parts[0], folder / "files")
        return folder.joinpath("files", *path.parts[1:])


def main(argv: list[str]) -> int:
    """Make the samples, then read as asked."""
    folder, seed = Path(argv[0]).resolve(), int(argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="vitreid-samples-") as place:
        samples = Samples(Path(place))
        for kind in FILES:  # loads what is loaded once
            FILES[kind].read(samples.copy(kind, folder / str(len(kind)) / kind.replace("/", "")))
        answer(folder, seed, samples, answers)
    return 0


def answer(folder: Path, seed: int, samples: Samples, answers: IO[str]) -> None:
    """Read as asked until the input ends."""
    space = (status_bytes("VmSize") or 0) + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    watch = Watch(folder, Path(tempfile.gettempdir()) / "vitreid-fuzz-")
    print(json.dumps({"ready": sorted(FILES)}), file=answers)
    for line in sys.stdin:
        kind, number = json.loads(line)
        print(json.dumps(read_changed(kind, number, seed, folder, samples, watch)), file=answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
