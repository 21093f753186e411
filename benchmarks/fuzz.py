"""Files and requests with random errors, read as the commands do: `python benchmarks/fuzz.py --minutes 10 [--seed N] [--kind TEXT]`.

Every kind of file and request of `benchmarks/attacks/stranger_files.py` takes its turn. A reading is wrong if it takes more than
--limit seconds of a core (or gives no answer in four times as many) or more memory than --memory, ends the process, raises
anything else than an error for the user, raises one that does not name the file, or touches something outside the file's folder.
The changed file is kept in --output, and `--again` reads it once more. The same seed gives the same changes.
"""

from __future__ import annotations

import argparse
import json
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.command import check_numbers, command, new_parser, save, start_report
from vitreid.common.errors import UserError
from vitreid.common.text import table

WORKER = Path(__file__).parent / "workers" / "fuzz_worker.py"
START_SECONDS = 900  # a worker's imports, on a busy machine
PATIENCE = 4  # times the limit: other programs may be using the cores
RENEWED = 20_000  # readings after which a worker is replaced


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one change of each kind", "of the changes")
    add = parser.add_argument
    add("--minutes", metavar="N", type=float, default=1, help="duration")
    add("--kind", metavar="TEXT", default="", help="only the kinds whose names contain this")
    add("--limit", metavar="S", type=float, default=5, help="longest reading in seconds of a core")
    add("--memory", metavar="MB", type=int, default=1000, help="most memory of a reading, above that of the process")
    add(
        "--output",
        metavar="FOLDER",
        type=Path,
        default=Path("fuzz-findings"),
        help="gets the files that were read wrongly",
    )
    add("--again", metavar="NUMBER", type=int, help="the change of this number only, of the one kind of --kind")
    return parser


def run(args: argparse.Namespace) -> int:
    """Read until the time is over; return 1 if something was wrong."""
    check_numbers(args, "minutes", "limit", "memory")
    report = start_report(args, "cpu", f"{args.minutes:g} min", f"at most {args.limit:g} s and {args.memory} MB")
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="vitreid-fuzz-") as folder, Reader(Path(folder), args) as reader:
        end = time.monotonic() + 60 * args.minutes
        for kind, number in turns(reader.kinds, args):
            if time.monotonic() > end and not args.quick:
                break
            answer = reader.read(kind, number)
            counts[kind].append(answer)
            if answer["wrong"]:
                key = f"{kind}: {answer['wrong'].partition(': ')[0]}"
                if key not in found:
                    kept = keep(reader.folder, args.output, kind, number)
                    print(f"{kind}, number {number}: {answer['wrong']} -> {kept}", flush=True)
                    found[key] = {
                        "kind": kind,
                        "number": number,
                        "times": 0,
                        "wrong": answer["wrong"],
                        "file": str(kept),
                    }
                found[key]["times"] += 1
    print(as_table(counts))
    total = sum(map(len, counts.values()))
    print(f"{total:,} readings, {len(found)} things wrong" + (f"; the files are in {args.output}" if found else ""))
    rows = {kind: summary(answers) for kind, answers in counts.items()}
    save(args, report | {"readings": total, "kinds": rows, "wrong": list(found.values())})
    return int(bool(found))


def turns(kinds: list[str], args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Yield kind and number of the change, each kind in turn."""
    chosen = [kind for kind in kinds if args.kind in kind]
    if not chosen or (args.again is not None and len(chosen) > 1):
        raise UserError(f"--kind: {args.kind!r} is in {len(chosen)} of the kinds {', '.join(kinds)}")
    for number in count() if args.again is None and not args.quick else [args.again or 0]:
        yield from ((kind, number) for kind in chosen)


class Reader:
    """A worker process, started again when it has ended or did not answer in time."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.kinds: list[str] = []
        self._left = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, kind: str, number: int) -> dict[str, Any]:
        """Return the worker's answer; a worker that gives none is stopped, which is the answer then."""
        if self._process is None or not self._left:
            self._stop()
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        self._left -= 1
        start = time.perf_counter()
        _clear(self.folder)
        process.stdin.write(json.dumps([kind, number]) + "\n")
        process.stdin.flush()
        line = self._line(PATIENCE * self.args.limit)
        if line:
            return self._judged(json.loads(line))
        self._stop()
        status = process.returncode
        why = "no answer" if status == -signal.SIGKILL else f"the process ended with {_name_of(status)}"
        return {"seconds": time.perf_counter() - start, "bytes": 0, "refused": False, "wrong": f"{why}: of itself"}

    def _judged(self, answer: dict[str, Any]) -> dict[str, Any]:
        if not answer["wrong"] and answer["seconds"] > self.args.limit:
            answer["wrong"] = f"too long: {answer['seconds']:.1f} s"
        if not answer["wrong"] and answer["bytes"] > self.args.memory * 1e6:
            answer["wrong"] = f"too much memory: {answer['bytes'] / 1e6:,.0f} MB"
        return answer

    def _start(self) -> None:
        words = [sys.executable, str(WORKER), str(self.folder), str(self.args.seed)]
        with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would stop the worker
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
            )
            line = self._line(START_SECONDS)
            if not line:
                self._stop()
                errors.seek(0)
                raise OSError(f"the worker does not start within {START_SECONDS} s: {errors.read()[-2000:]}")
        self.kinds, self._left = json.loads(line)["ready"], RENEWED

    def _line(self, seconds: float) -> str:
        """Return the next line of the worker, "" if it ended or the time is over."""
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return self._process.stdout.readline() if selector.select(seconds) else ""

    def _stop(self) -> None:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # it may have ended of itself
            self._process.kill()
            self._process.wait()
            self._process = None


def _clear(folder: Path) -> None:
    for item in folder.iterdir():
        shutil.rmtree(item)


def _name_of(status: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"status {status}"


def keep(folder: Path, output: Path, kind: str, number: int) -> Path:
    """Copy what was read into the output folder; return the copy's path."""
    target = output / f"{kind.replace(':', '').replace(' ', '_')}-{number}"
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def summary(answers: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of a kind."""
    return {
        "readings": len(answers),
        "refused": sum(answer["refused"] for answer in answers),
        "seconds": max(answer["seconds"] for answer in answers),
        "MB": max(answer["bytes"] for answer in answers) / 1e6,
        "wrong": sum(bool(answer["wrong"]) for answer in answers),
    }


def as_table(counts: dict[str, list[dict[str, Any]]]) -> str:
    """Return a line for each kind."""
    rows = [["kind", "readings", "refused", "longest", "most memory", "wrong"]]
    for kind, answers in sorted(counts.items()):
        found = summary(answers)
        rows.append(
            [
                kind,
                f"{found['readings']:,}",
                f"{found['refused']:,}",
                f"{found['seconds']:.2f} s",
                f"{found['MB']:,.0f} MB",
                str(found["wrong"]),
            ]
        )
    return table(rows)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
