"""Speed of data loading: `python benchmarks/data.py [--quick] [--json FILE] [--data ROOT] [--transreid DIR …]`.

Every measurement runs in a fresh process. Contestants take turns, because a machine's speed drifts. Tables show medians with minimum
and maximum. Without --data, synthetic people are drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.benchmarks.common.isolated_process import ask
from vitreid.benchmarks.workers.data_worker import OURS, TASKS, LoadingJob, LoadingOutcome
from vitreid.common.files import write_text_atomically
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate

WORKER = Path(__file__).parent / "workers" / "data_worker.py"
PEERS = {"transreid": "datasets/make_dataloader.py", "fastreid": "fastreid/data/samplers/triplet_sampler.py"}
ROUNDS, QUICK_ROUNDS = 3, 1
SMALL, LARGE = "vit_tiny_patch16_224", "vit_base_patch16_224"
PEOPLE, QUICK_PEOPLE = SyntheticPlan(), SyntheticPlan(32, 4, 2, 3, 4)
HIGHER = {"img/s"}  # figures where more is better
Measure = Callable[[LoadingJob], LoadingOutcome]


@dataclass(frozen=True)
class LoadingCase:
    """One table: a task, settings of its jobs, and the required result.

    Args:
        shown: figures; contestants are compared by the first.
        job: fields of `LoadingJob` with other values than the defaults.
        factor: peer, and the required ratio of ours to it.
        most: upper limit of ours.
    """

    name: str
    task: str
    about: str
    shown: tuple[str, ...]
    job: dict[str, object] = field(default_factory=dict)
    factor: tuple[str, float] | None = None
    most: float | None = None


CASES = [
    LoadingCase("train", "train batches", "augmented training batches on the device", ("img/s",), {}, ("TransReID", 8)),
    LoadingCase("test", "test batches", "test batches on the device", ("img/s",), {}, ("TransReID", 8)),
    LoadingCase("decoding", "decoding", "the training set decoded into memory", ("seconds", "MB")),
    LoadingCase("sampler", "sampler", "one epoch of the PK sampler", ("seconds",), {}, None, 1.0),
    LoadingCase(
        "waiting-small", "waiting", f"training {SMALL}", ("waiting", "longer", "img/s"), {"model": SMALL}, None, 0.03
    ),
    LoadingCase(
        "waiting-base", "waiting", f"training {LARGE}", ("waiting", "longer", "img/s"), {"model": LARGE}, None, 0.03
    ),
    LoadingCase(
        "first-step", "first step", f"from command to first step of {LARGE}", ("seconds", "step done"), {}, None, 20.0
    ),
]
QUICK: dict[str, dict[str, Any]] = {  # jobs under --quick; other cases are left out
    "train": {"steps": 60},
    "sampler": {"images": 100_000, "ids": 10_000},
    "waiting-small": {"steps": 4, "warmup": 1},
}
STEPS = {"waiting-small": 30, "waiting-base": 5}


@dataclass
class LoadingFigures:
    """One contestant's figures, or the reason for their absence."""

    contestant: str
    runs: list[dict[str, float]] = field(default_factory=list)
    skipped: str = ""

    def spread(self, name: str) -> tuple[float, float, float] | None:
        """Return median, minimum and maximum of a figure, None where it was not measured."""
        values = [run[name] for run in self.runs]
        return (statistics.median(values), min(values), max(values)) if values else None


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(
        description="Speed of decoding, augmentation and sampling, compared with other projects."
    )
    parser.add_argument("--quick", action="store_true", help="fewer batches, small model, one round: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file, after each case")
    parser.add_argument(
        "--data", metavar="DATA_ROOT", type=Path, help="folder that holds market1501; else synthetic people"
    )
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="DIR", type=Path, help=f"checkout of {name}")
    parser.add_argument("--cases", metavar="NAMES", help=f"some of {','.join(case.name for case in CASES)}")
    parser.add_argument(
        "--rounds", type=int, help=f"measurements of each, {ROUNDS} if not given ({QUICK_ROUNDS} if quick)"
    )
    parser.add_argument("--workers", type=int, default=2, help="workers of every loader")
    parser.add_argument(
        "--limit", type=float, default=300, metavar="SECONDS", help="stop a measurement that takes longer"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the batches")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace, measure: Measure | None = None, options: tuple[str, ...] = ()) -> dict[str, object]:
    """Measure all the chosen cases, print them, and return what goes into the JSON file.

    Args:
        measure: runs one job; None = in a fresh process.
        options: further KEY VALUE overrides of our config.
    """
    check_arguments(args)
    chosen, started = find_cases(args), time.time()
    hardware = describe_hardware(args.device)
    print(*(f"{key} {value}" for key, value in hardware.items()), sep=" | ")
    report: dict[str, object] = {"quick": args.quick, "hardware": hardware}
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        data = args.data.absolute() if args.data else draw_people(Path(folder), args.quick)
        print(
            f"data: {f'market1501 in {args.data}' if args.data else 'synthetic people (no --data)'}; {args.workers} workers"
        )
        output = ("OUTPUT_DIR", str(Path(folder) / "run"))
        for case in chosen:
            job = job_of(case, args, data, (*output, *options) if case.task == "first step" else options)
            results.append(run_case(case, job, args, measure or in_fresh_process(args.limit)))
            report |= {"cases": results, "seconds": time.time() - started}
            if args.json:
                write_text_atomically(args.json, json.dumps(report, indent=1))
    if left := [case.name for case in CASES if case not in chosen]:
        print(f"\nleft out: {', '.join(left)}" + (" (--quick)" if args.quick and not args.cases else ""))
    return report


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for arguments that would fail later; names argument, value and remedy."""
    for name, least in (("rounds", 1), ("workers", 0), ("limit", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name}: {least} or more, got {value}")
    if args.data and not (args.data / "market1501").is_dir():
        raise ValueError(f"--data: {args.data} holds no market1501; give the folder that does, or leave it out")
    for name, marker in PEERS.items():
        folder = getattr(args, name)
        if folder and not (folder / marker).is_file():
            raise ValueError(f"--{name}: {folder} holds no {marker}; give the root folder of its checkout")


def find_cases(args: argparse.Namespace) -> list[LoadingCase]:
    """Return the named cases; by default all, or the quick ones.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    by_name = {case.name: case for case in CASES}
    names = args.cases.split(",") if args.cases else list(QUICK if args.quick else by_name)
    for name in names:
        if name not in by_name:
            raise ValueError(f"--cases: unknown case {name!r}; choose from {','.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)]


def draw_people(folder: Path, is_quick: bool) -> Path:
    """Draw synthetic people in Market-1501's layout; return the folder that holds them."""
    generate(folder / "market1501", QUICK_PEOPLE if is_quick else PEOPLE)
    return folder


def job_of(case: LoadingCase, args: argparse.Namespace, data: Path, options: tuple[str, ...]) -> LoadingJob:
    """Return the job of a case, without contestant and checkout."""
    job = LoadingJob(case.task, OURS, str(data), device=args.device, workers=args.workers, options=options)
    own: dict[str, Any] = {**case.job, **({"steps": STEPS[case.name], "warmup": 2} if case.name in STEPS else {})}
    return replace(job, **{**own, **(QUICK.get(case.name, {}) if args.quick else {})})


def run_case(case: LoadingCase, job: LoadingJob, args: argparse.Namespace, measure: Measure) -> dict[str, object]:
    """Measure one case, print its table, and return its figures."""
    size = f", {job.images:,} images of {job.ids:,} people" if case.task == "sampler" else ""
    model = job.model if case.task == "first step" else ""
    print(
        f"\n{case.name}: {case.about.replace(LARGE, model) if model else case.about}{size}, batch {job.batch}",
        flush=True,
    )
    rows = compare(job, args, measure)
    print(format_table(case, rows))
    bars = [] if args.quick else judge(case, rows)
    print(*(f"bar: {line}" for line in bars), sep="\n", end="\n" if bars else "", flush=True)
    return {"case": case.name, "job": asdict(job), "contestants": [asdict(row) for row in rows], "bars": bars}


def compare(job: LoadingJob, args: argparse.Namespace, measure: Measure) -> list[LoadingFigures]:
    """Measure all contestants of the job's task in turn, round after round."""
    rows = [LoadingFigures(name) for name in TASKS[job.task]]
    for _ in range(args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)):
        for row in (row for row in rows if not row.skipped):
            peer = TASKS[job.task][row.contestant][1]
            if peer and not getattr(args, peer):
                row.skipped = f"no checkout given (--{peer})"
                continue
            checkout = str(getattr(args, peer).absolute()) if peer else ""
            outcome = measure(replace(job, contestant=row.contestant, checkout=checkout, started=time.time()))
            row.runs += [] if outcome.failure else [outcome.figures]
            row.skipped = outcome.failure
    return rows


def in_fresh_process(limit: float) -> Measure:
    """Return the function that measures a job in a fresh process, stopped after `limit` seconds."""
    return lambda job: ask(WORKER, job, limit, LoadingOutcome)


def format_table(case: LoadingCase, rows: list[LoadingFigures]) -> str:
    """Return a line per contestant: medians with extremes, and the ratio of ours to it."""
    lines = []
    for row in rows:
        cells = [_cell(name, spread) for name in case.shown if (spread := row.spread(name))]
        ratio = _ratio(case.shown[0], rows[0], row)
        cells += [f"vitreid is {ratio:.3g} x as fast"] if ratio and row is not rows[0] else []
        lines.append(f"  {row.contestant:<26}" + "   ".join([*cells, row.skipped]).rstrip())
    return "\n".join(lines)


def _cell(name: str, spread: tuple[float, float, float]) -> str:
    if name in ("waiting", "longer"):
        return f"{name} {100 * spread[0]:.2f} % ({100 * spread[1]:.2f} - {100 * spread[2]:.2f})"
    digits = 0 if spread[0] >= 100 else 2
    return f"{name} {spread[0]:,.{digits}f} ({spread[1]:,.{digits}f} - {spread[2]:,.{digits}f})"


def _ratio(name: str, own: LoadingFigures, other: LoadingFigures) -> float | None:
    """Return the ratio of the medians; above 1 = ours is better."""
    one, two = own.spread(name), other.spread(name)
    if one is None or two is None:
        return None
    return one[0] / two[0] if name in HIGHER else two[0] / one[0]


def judge(case: LoadingCase, rows: list[LoadingFigures]) -> list[str]:
    """Return a line on the required result: met, or missed and by how much."""
    own, name = rows[0].spread(case.shown[0]), case.shown[0]
    if own is None:
        return [f"vitreid has no figures: {rows[0].skipped}"]
    if case.factor is not None:
        peer = next(row for row in rows if row.contestant == case.factor[0])
        ratio = _ratio(name, rows[0], peer)
        if ratio is None:
            return [f"no figures of {peer.contestant} to compare with: {peer.skipped}"]
        return [f"at least {case.factor[1]:g} x {peer.contestant}: {ratio:.3g} x, {_verdict(case.factor[1] / ratio)}"]
    return [] if case.most is None else [f"{name} below {case.most:g}: {own[0]:.3g}, {_verdict(own[0] / case.most)}"]


def _verdict(share: float) -> str:
    return "met" if share <= 1 else f"missed by {100 * (share - 1):.0f} %"


if __name__ == "__main__":
    sys.exit(main())
