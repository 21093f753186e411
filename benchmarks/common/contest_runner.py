"""A benchmark of cases: contestants measured in turn, each time in a fresh process, and printed as a table per case."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.command import Report, check_numbers, collect, start_report
from vitreid.benchmarks.common.isolated_process import ask
from vitreid.benchmarks.common.measurement import Bar, MeasuredRow, spread, spread_text, turns
from vitreid.common.errors import UserError
from vitreid.common.text import table


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        head: its heading.
        figure: name of what it shows, numbers or text.
        spec: format of the numbers; empty = depends on their size.
        is_spread: whether minimum and maximum are shown.
        low, high: the figures of which they are; empty = `figure`.
        than: shows the ratio to this contestant's median; `inverse`: the other way round.
    """

    head: str
    figure: str
    spec: str = ""
    is_spread: bool = False
    low: str = ""
    high: str = ""
    than: str = ""
    inverse: bool = False

    def text(self, row: MeasuredRow, rows: list[MeasuredRow]) -> str:
        """Return the cell of a contestant."""
        values = row.values(self.figure)
        if not values or isinstance(values[0], str):
            return values[0] if values else "-"
        if self.than:
            ratio = self.ratio(row, rows)
            return "-" if ratio is None else f"{ratio:.2f}"
        found = spread(values)
        spec = self.spec or (",.0f" if found["median"] >= 100 else ",.2f")
        if not self.is_spread:
            return format(found["median"], spec)
        low, high = row.values(self.low or self.figure), row.values(self.high or self.figure)
        return spread_text({**found, "min": min(low), "max": max(high)}, spec)

    def ratio(self, row: MeasuredRow, rows: list[MeasuredRow]) -> float | None:
        """Return the contestant's median in units of that of `than`, or the inverse."""
        own = row.median(self.figure)
        other = next((row.median(self.figure) for row in rows if row.contestant == self.than), None)
        if not own or not other:
            return None
        return other / own if self.inverse else own / other


def as_table(rows: list[MeasuredRow], columns: Sequence[Column]) -> str:
    """Return a line per contestant, without the columns that no one has, and the reasons of those without figures."""
    measured = [row for row in rows if row.runs]
    shown = [one for one in columns if any(row.values(one.figure) for row in rows) and len(measured) > bool(one.than)]
    cells = [[row.contestant, *(column.text(row, rows) for column in shown), str(len(row.runs))] for row in measured]
    text = table([["contestant", *(column.head for column in shown), "runs"], *cells])
    return "\n".join([text, *(f"{row.contestant}: {row.skipped}" for row in rows if row.skipped)])


def compare(
    args: argparse.Namespace,
    headline: str,
    worker: Path,
    skipped: Mapping[str, str],
    job_of: Callable[[str], Any],
    columns: Sequence[Column],
    bars: Sequence[Bar],
) -> dict[str, Any]:
    """Measure contestants in turn, print their table and the bars, and return both as plain values.

    Args:
        args: `rounds`, `quick` and `limit` count.
        worker: the script that measures a job.
        skipped: contestant -> the reason why it cannot be measured; empty = it can.
        job_of: contestant -> its job.
    """
    print(f"\n{headline}", flush=True)
    rounds = args.rounds or (1 if args.quick else 3)
    rows = turns(skipped, rounds, lambda name, _: ask(worker, job_of(name), args.limit))
    lines = [bar.judge(rows) for bar in bars]
    print(as_table(rows, columns), *(f"bar: {line}" for line in lines), sep="\n", flush=True)
    ratios = [column for column in columns if column.than]
    plain = [{**asdict(row), **{column.head: column.ratio(row, rows) for column in ratios}} for row in rows]
    return {"contestants": plain, "bars": lines}


def add_contest(parser: argparse.ArgumentParser, cases: str, limit: float, peers: Iterable[str]) -> None:
    """Add the options of a benchmark with cases: which, how often, how long at most, where, and the peers' checkouts."""
    for name in peers:
        parser.add_argument(f"--{name}", metavar="DIR", type=Path, help=f"checkout of {name}")
    parser.add_argument("--cases", metavar="NAMES", help=f"some of {cases}; all unless --quick")
    parser.add_argument("--rounds", type=int, help="measurements of each, 3 if not given (1 if quick)")
    parser.add_argument("--limit", type=float, default=limit, metavar="SECONDS", help="longest time of a measurement")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the tensors")


def run_contest(
    args: argparse.Namespace,
    cases: Iterable[str],
    quick: Iterable[str],
    peers: Mapping[str, str],
    measure: Callable[[argparse.Namespace, list[str]], Iterable[Report]],
) -> Report:
    """Measure the cases of --cases, all or the quick ones; return what goes into the JSON file, which is saved after each.

    Args:
        peers: option -> a file by which the project's checkout is recognised.
        measure: the chosen cases -> the figures of each.
    Raises:
        UserError: an argument is wrong; the message has its value and the values accepted.
    """
    check_numbers(args, "rounds", "limit")
    for name, marker in peers.items():
        folder = getattr(args, name)
        if folder and not (folder / marker).is_file():
            raise UserError(f"--{name}: {folder} holds no {marker}; give the root folder of its checkout")
    known = list(cases)
    chosen = list(dict.fromkeys(args.cases.split(",") if args.cases else quick if args.quick else known))
    if unknown := [name for name in chosen if name not in known]:
        raise UserError(f"--cases: unknown case {unknown[0]!r}; choose from {','.join(known)}")
    left_out = [name for name in known if name not in chosen]
    report = start_report(args, args.device) | {"left out": left_out}
    collect(args, report, measure(args, chosen))
    if left_out:
        print(f"\nleft out: {', '.join(left_out)}" + (" (--quick)" if args.quick and not args.cases else ""))
    return report
