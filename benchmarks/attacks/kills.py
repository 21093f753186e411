"""SIGKILL at random moments of everything that writes: `python benchmarks/attacks/kills.py --kills 500 [--seed N] [--writer TEXT]`.

Each writer of `benchmarks/attacks/writers.py` takes its turn, in a process that is killed at a random moment, or at a random access
to the file system. A second writer and a reader work on the same files meanwhile. Then nothing may be lost or half-written, the
next attempt must succeed, and no file may be left that is not expected. POSIX only: processes are forked.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vitreid.benchmarks.attacks.writers import WRITERS, Writer
from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.common.errors import UserError
from vitreid.common.locks import FILE as LOCK
from vitreid.common.text import first_line, table

PATIENCE = 300  # seconds for one attempt
LONG, SELDOM = 1.0, 4  # seconds of a write that takes long
PROGRESS = 50  # rounds between two lines of progress
PAUSE = 0.005  # seconds between two looks of the reader, and two writes of the second writer
FILE_EVENTS = ("open", "os.", "shutil.")  # audit events (PEP 578) that count as accesses


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one kill of each writer", "of the moments")
    parser.add_argument("--kills", metavar="N", type=int, default=500, help="in all")
    parser.add_argument("--writer", metavar="TEXT", default="", help="only the writers whose names contain this")
    return parser


def run(args: argparse.Namespace) -> int:
    """Kill, check, print; return 1 if something was broken."""
    check_numbers(args, "kills")
    if not hasattr(os, "fork"):
        raise UserError("this benchmark forks processes, which this system cannot do")
    chosen = [name for name in WRITERS if args.writer in name]
    if not chosen:
        raise UserError(f"--writer: {args.writer!r} is in none of {', '.join(WRITERS)}")
    kills = len(chosen) if args.quick else args.kills
    report = start_report(args, "cpu", f"{kills} kills")
    torch.set_num_threads(1)
    rounds: dict[str, list[Report]] = defaultdict(list)
    with without_log(), tempfile.TemporaryDirectory(prefix="vitreid-kills-") as folder:
        lengths = {name: measure(name, Path(folder) / "measured") for name in chosen}
        with suppress(KeyboardInterrupt):  # then the figures are those so far
            for number, name in enumerate(turns(lengths), 1):
                killed = sum(one["killed"] for found in rounds.values() for one in found)
                if killed >= kills or number > 4 * kills:
                    break
                if number % PROGRESS == 0:
                    print(f"{killed} kills in {number} rounds", file=sys.stderr, flush=True)
                dice = random.Random(f"{args.seed} {number}")  # nosec B311: moments, no secrets
                found = one_round(WRITERS[name], Path(folder) / "round", dice, lengths[name])
                rounds[name].append(found)
                if found["broken"]:
                    print(f"{name}, round {number} ({found['moment']}): {found['broken']}", flush=True)
    print(as_table(rounds))
    rows = {name: summary(found) for name, found in rounds.items()}
    total = {key: sum(row[key] for row in rows.values()) for key in ("killed", "looks", "added", "broken")}
    print(
        f"{total['killed']} kills, {total['looks']:,} looks, {total['added']:,} rows of the second writer, {total['broken']} things broken"
    )
    save(args, report | total | {"writers": rows})
    return int(bool(total["broken"]))


@contextmanager
def without_log() -> Iterator[None]:
    """Keep the log of this process and of those that it forks quiet."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def turns(lengths: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield the writers in turn, without end; those that take long come every SELDOM-th time."""
    for number in itertools.count():
        yield from (name for name, length in lengths.items() if length["seconds"] < LONG or number % SELDOM == 0)


def measure(name: str, folder: Path) -> dict[str, float]:
    """Return seconds and accesses to the file system of one whole write."""
    writer, status = WRITERS[name], folder / "measured.json"
    place = folder / "files"
    shutil.rmtree(folder, ignore_errors=True)
    place.mkdir(parents=True)
    writer.prepare(place)

    def act() -> None:
        counted, start = AccessCount(0), time.perf_counter()
        writer.write(place, 1)
        seconds = time.perf_counter() - start
        status.write_text(json.dumps({"seconds": seconds, "accesses": counted.number}))

    error = ended(started(act, folder), folder)
    if error:
        raise OSError(f"{name} fails without a kill: {error}")
    return json.loads(status.read_text())


def one_round(writer: Writer, folder: Path, dice: random.Random, length: dict[str, float]) -> Report:
    """Kill one write; return whether it was, and what is broken ("" = nothing)."""
    place = folder / "files"
    shutil.rmtree(folder, ignore_errors=True)
    place.mkdir(parents=True)
    writer.prepare(place)
    by_access = dice.random() < 0.7
    access = dice.randint(1, max(1, round(1.1 * length["accesses"]))) if by_access else 0
    seconds = dice.uniform(0, 1.3 * length["seconds"])
    helpers = [started(partial(look_on, writer, place, folder), folder / "reader")]
    if writer.second is not None:
        helpers.append(started(partial(write_second, writer, place, folder), folder / "second"))
    victim = started(partial(write_until, writer, place, access), folder / "victim")
    if not by_access:
        time.sleep(seconds)
        os.kill(victim, signal.SIGKILL)
    errors = [ended(victim, folder / "victim")]
    was_killed = errors[0] == "SIGKILL"
    errors = (
        [] if was_killed else [f"the writer: {error}" for error in errors if error and "BlockingIOError" not in error]
    )
    time.sleep(2 * PAUSE)
    (folder / "stop").touch()
    errors += [
        f"meanwhile: {error}"
        for one, helper in zip(("reader", "second"), helpers)
        if (error := ended(helper, folder / one))
    ]
    added = set(json.loads((folder / "added.json").read_text())) if (folder / "added.json").exists() else set()
    if not errors:
        errors = after(writer, place, added if writer.shared else set(), folder)
    looks = int((folder / "looks").read_text()) if (folder / "looks").exists() else 0
    moment = (
        f"access {access} of {length['accesses']}"
        if by_access
        else f"after {seconds:.3f} s of {length['seconds']:.3f} s"
    )
    return {"killed": was_killed, "broken": "; ".join(errors), "moment": moment, "looks": looks, "added": len(added)}


def after(writer: Writer, place: Path, added: set[int], folder: Path) -> list[str]:
    """Return what is broken: now, after another attempt, or left over; each check runs in another process."""
    steps: list[tuple[str, Callable[[], object]]] = [
        ("after the kill", lambda: writer.check(place, added)),
        ("the next attempt", lambda: writer.write(place, 2)),
        ("after the next attempt", lambda: writer.check(place, added)),
    ]
    for number, (when, act) in enumerate(steps):
        if error := ended(started(act, folder / f"step {number}"), folder / f"step {number}"):
            return [f"{when}: {error}"]
    left = {item.name for item in place.iterdir()} - writer.left
    if writer.left and left:
        return [f"left behind: {', '.join(sorted(left))}"]
    hidden = [item.relative_to(place).as_posix() for item in place.rglob(".*") if item.name != LOCK]
    return [f"left behind: {', '.join(sorted(hidden))}"] if hidden else []


# ---- what the processes do


class AccessCount:
    """Counts the accesses to the file system, and kills the process at one of them (0 = never)."""

    def __init__(self, deadly: int) -> None:
        self.deadly, self.number = deadly, 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(FILE_EVENTS):
            self.number += 1
            if self.number == self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)


def write_until(writer: Writer, place: Path, access: int) -> None:
    """Write; die at an access to the file system."""
    AccessCount(access)
    writer.write(place, 0)


def look_on(writer: Writer, place: Path, folder: Path) -> None:
    """Look at the files until the round ends; note how often."""
    looks = 0
    while not (folder / "stop").exists():
        writer.look(place)
        looks += 1
        (folder / "looks").write_text(str(looks))
        time.sleep(PAUSE)


def write_second(writer: Writer, place: Path, folder: Path) -> None:
    """Write next to the killed writer until the round ends; note what was added."""
    added: set[int] = set()
    number = 0
    assert writer.second is not None
    while not (folder / "stop").exists():
        added |= writer.second(place, number)
        number += 1
        time.sleep(PAUSE)
    (folder / "added.json").write_text(json.dumps(sorted(added)))


def started(act: Callable[[], object], note: Path) -> int:
    """Return the id of a forked process that does something; an error is written into `note`.error."""
    note.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        gc.disable()  # another process has the files of the objects that this one would delete
        act()
        status = 0
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {first_line(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
        note.with_name(f"{note.name}.error").write_text(text)
    finally:
        os._exit(status)


def ended(pid: int, note: Path) -> str:
    """Wait for a process; return "" if it did what it should, else the error or the name of the signal."""
    until = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"no end after {PATIENCE} s"
        time.sleep(0.002)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    error = note.with_name(f"{note.name}.error")
    return (error.read_text() if error.exists() else "no reason given") if status else ""


# ---- what came of it


def summary(found: list[Report]) -> dict[str, int]:
    """Return the figures of a writer."""
    broken = sum(bool(one["broken"]) for one in found)
    return {
        "rounds": len(found),
        "broken": broken,
        **{key: sum(one[key] for one in found) for key in ("killed", "looks", "added")},
    }


def as_table(rounds: dict[str, list[Report]]) -> str:
    """Return a line for each writer."""
    rows = [["writer", "rounds", "kills", "looks", "rows added", "broken"]]
    for name, found in rounds.items():
        one = summary(found)
        rows.append([name, *(f"{one[key]:,}" for key in ("rounds", "killed", "looks", "added", "broken"))])
    return table(rows)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
