"""Run the commands of a published table for several seeds, and sum the figures up."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.tools.published.published_tables import RETRIEVAL, Row

ROOT = Path(__file__).resolve().parents[2]
DONE = "done.jsonl"  # a line per finished command
CUT_SHORT = "cut_short.jsonl"  # a line per command that was interrupted or failed


def reproduce(
    rows: Sequence[Row], seeds: Sequence[int], data: Path, output: Path, checkouts: Mapping[str, Path] | None = None
) -> str:
    """Run what is not done yet; return the table as Markdown, mean ± standard deviation over the seeds.

    A command that was finished by an earlier call is not run again; an interrupted training resumes.

    Args:
        data: folder of the data sets.
        output: folder of the runs.
        checkouts: of other projects' code, by their names.
    Raises:
        OSError: a command failed; says which, and where its output is.
        UserError: a benchmark is not here, because an installation has none.
    """
    for name in (command.split()[1] for row in rows for command in row.commands):
        if name.startswith("benchmarks/") and not (ROOT / name).is_file():
            raise UserError(
                f"{name}: not in {ROOT}, an installation without benchmarks; clone vitreid's repository, run "
                "`pip install -e .` in it, and run this again"
            )
    lines = [f"| what | seeds | {' | '.join(RETRIEVAL)} | minutes |", "|---|---|" + "---|" * (len(RETRIEVAL) + 1)]
    for row in rows:
        runs, minutes = run_row(row, seeds, data, output, checkouts)
        if row.metrics:
            figures = [_read(run / row.metrics) for run in runs]
            cells = [spread([100 * one[name] for one in figures]) for name in RETRIEVAL]
        else:
            cells = ["see below"] + [""] * (len(RETRIEVAL) - 1)
            lines = [*(_log(run, row.commands[-1]).read_text() for run in runs), *lines]
        seeds_shown = ", ".join(map(str, seeds))
        lines.append(f"| {row.label} | {seeds_shown} | {' | '.join(cells)} | {spread(minutes)} |")
    return "\n".join(lines)


def run_row(
    row: Row, seeds: Sequence[int], data: Path, output: Path, checkouts: Mapping[str, Path] | None = None
) -> tuple[list[Path], list[float]]:
    """Run what is not done of a row; return the folder and the minutes of each seed; arguments and OSError as `reproduce`."""
    runs = [output / f"{row.folder}-{seed}" for seed in seeds]
    return runs, [_run(run, fill(row, run, seed, data, checkouts), row) / 60 for run, seed in zip(runs, seeds)]


def spread(values: Sequence[float]) -> str:
    """Return `mean ± standard deviation` of the sample, or the only value.

    >>> spread([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    >>> spread([2.04])
    '2.0'
    """
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def fill(row: Row, run: Path, seed: int, data: Path, checkouts: Mapping[str, Path] | None = None) -> list[list[str]]:
    """Return the row's commands for one seed, split; the last one gets the checkouts that it takes."""
    places = {"run": run, "seed": seed, "root": data}
    commands = [[word.format_map(places) for word in shlex.split(command)] for command in row.commands]
    for name, folder in (checkouts or {}).items():
        commands[-1] += [f"--{name}", str(folder)] if name in row.peers else []
    return commands


def _run(run: Path, commands: list[list[str]], row: Row) -> float:
    """Run the commands that are not done; return the seconds of all, those of earlier and of interrupted calls included."""
    run.mkdir(parents=True, exist_ok=True)
    for command, shown in zip(commands, row.commands):
        if command not in [done["command"] for done in _noted(run / DONE)]:
            start = time.perf_counter()
            try:
                seconds = _execute(command, _log(run, shown))
            except (OSError, KeyboardInterrupt):
                _note(run / CUT_SHORT, command, time.perf_counter() - start)
                raise
            _note(run / DONE, command, seconds)
    calls = [call for name in (DONE, CUT_SHORT) for call in _noted(run / name)]
    return sum(call["seconds"] for call in calls if call["command"] in commands)


def _note(path: Path, command: list[str], seconds: float) -> None:
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"command": command, "seconds": round(seconds, 1)}) + "\n")


def _noted(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _execute(command: list[str], log: Path) -> float:
    """Run `vitreid …` or `python FILE …`, its output into `log`; return the seconds it took."""
    print("running", shlex.join(command), "->", log, file=sys.stderr)
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as lines:
        words = ["-m", *command] if command[0] == "vitreid" else [str(ROOT / command[1]), *command[2:]]
        # not in the repository's root: its folder `datasets` would hide the library of that name
        process = subprocess.run([sys.executable, *words], stdout=lines, stderr=subprocess.STDOUT, cwd=log.parent)
    if code := process.returncode:
        raise OSError(f"{shlex.join(command)} ended with status {code}; see {log}, then run this again to resume")
    return time.perf_counter() - start


def _log(run: Path, command: str) -> Path:
    """Return where a command's output goes: train.txt, test.txt, reranked.txt, …"""
    name = "reranked" if "reranked" in command else Path(command.split()[1]).stem
    return run / f"{name}.txt"


def _read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text(encoding="utf-8"))
