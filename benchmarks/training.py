"""Speed and memory of a training step: `python benchmarks/training.py [--transreid DIR] [--quick] [--json FILE]`.

The original TransReID's model, losses and optimizer step are compared with ours on the same random crops of 751 people. Each
measurement is a fresh process, and the contestants take turns, since a machine's speed drifts; a table shows medians with
minimum and maximum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.benchmarks.common.isolated_process import ask
from vitreid.benchmarks.workers.training_worker import TrainingJob, TrainingMeasurement
from vitreid.common.files import write_text_atomically

WORKER = Path(__file__).parent / "workers" / "training_worker.py"
MARKER = "model/backbones/vit_pytorch.py"  # a file that marks a checkout of the original
AS_WRITTEN, PATCHED = "TransReID as written", "TransReID + autocast"


@dataclass(frozen=True)
class TrainingBar:
    """`who` must reach `factor` times the images per second of `than`, or (than empty) stay under `gigabytes`."""

    who: str
    than: str = ""
    factor: float = 0.0
    gigabytes: float = 0.0


@dataclass(frozen=True)
class TrainingCase:
    """A comparison: contestants by their names in the table, and the bars that they must reach."""

    title: str
    jobs: dict[str, TrainingJob]
    bars: tuple[TrainingBar, ...] = ()


@dataclass
class TrainingRow:
    """One contestant's measurements, or the reason why there are none."""

    contestant: str
    runs: list[TrainingMeasurement] = field(default_factory=list)
    skipped: str = ""

    @property
    def speed(self) -> float | None:
        """Images per second, the median of the runs' medians."""
        found = [speed for run in self.runs if (speed := run.speed)]
        return statistics.median(found) if found else None

    @property
    def peak_mb(self) -> float | None:
        """Peak memory above the inputs; GPU memory if there is a GPU."""
        found = [peak for run in self.runs if (peak := run.gpu_mb or run.peak_mb)]
        return statistics.median(found) if found else None


def training_jobs(recipe: str, original: str, batch: int, steps: int) -> dict[str, TrainingJob]:
    """Return the four contestants of a recipe on a CPU: each side in float32 and in the number format of this machine."""
    theirs, ours = (
        TrainingJob("original", recipe, original, batch, steps),
        TrainingJob("vitreid", recipe, original, batch, steps),
    )
    return {
        AS_WRITTEN: replace(theirs, precision="fp32"),
        PATCHED: theirs,
        "vitreid float32": replace(ours, precision="fp32"),
        "vitreid": ours,
    }


def cpu_cases(steps: int) -> dict[str, TrainingCase]:
    """Return the cases for a CPU; the bars are those of a machine that computes in bf16."""
    base, jpm, stride = (
        training_jobs(f"market/{name}", f"Market/{name}.yml", 32, steps)
        for name in ("vit_base", "vit_transreid", "vit_transreid_stride")
    )
    extract = TrainingJob("extraction", "market/vit_base", "", 32, steps)
    bars = (
        TrainingBar("vitreid", AS_WRITTEN, 4),
        TrainingBar("vitreid", PATCHED, 1.15),
        TrainingBar("vitreid float32", AS_WRITTEN, 1),
    )
    return {
        "base": TrainingCase("ViT-Base, batch 32: forward, losses, backward, SGD", base, bars),
        "sie-jpm": TrainingCase("the same with SIE and JPM", jpm, (TrainingBar("vitreid", AS_WRITTEN, 4.5),)),
        "stride": TrainingCase(
            "SIE, JPM and stride 12",
            stride,
            (
                TrainingBar("vitreid", AS_WRITTEN, 4),
                TrainingBar("vitreid", PATCHED, 1.3),
                TrainingBar("vitreid", gigabytes=5),
            ),
        ),
        "extract": TrainingCase(
            "embeddings of image files, ViT-Base, compared with the model's forward pass alone",
            {"bare forward": replace(extract, contestant="bare forward"), "extraction": extract},
            (TrainingBar("extraction", "bare forward", 0.9),),
        ),
    }


def cuda_cases(steps: int) -> dict[str, TrainingCase]:
    """Return the cases for a GPU: two batch sizes, torch.compile, and the memory of micro-batches."""

    def case(batch: int) -> TrainingCase:
        jobs = training_jobs("market/vit_base", "Market/vit_base.yml", batch, steps)
        jobs = {name: replace(job, device="cuda") for name, job in jobs.items() if name != AS_WRITTEN}
        ours = jobs["vitreid"]
        jobs["vitreid compiled"] = replace(ours, opts=("SOLVER.COMPILE", "True"))
        for size in (8, 16, 64):
            if size < batch:
                jobs[f"vitreid, micro-batch {size}"] = replace(ours, opts=("SOLVER.MICRO_BATCH", str(size)))
        return TrainingCase(f"ViT-Base, batch {batch}", jobs, (TrainingBar("vitreid", PATCHED, 3),))

    return {"base-64": case(64), "base-256": case(256), "extract": _on_gpu(cpu_cases(steps)["extract"])}


def _on_gpu(case: TrainingCase) -> TrainingCase:
    return replace(case, jobs={name: replace(job, device="cuda") for name, job in case.jobs.items()})


def quick(case: TrainingCase) -> TrainingCase:
    """Return the case with 8 small images and one step, which checks that everything runs."""
    jobs = {who: replace(job, batch=8, steps=1, size=(64, 32)) for who, job in case.jobs.items()}
    return replace(case, jobs=jobs, bars=())


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(
        description="Speed and memory of training and extraction, compared with the original."
    )
    parser.add_argument("--quick", action="store_true", help="8 small images, one step, one round: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file, after each case")
    parser.add_argument("--transreid", metavar="DIR", type=Path, help="checkout of the original TransReID")
    parser.add_argument("--cases", metavar="NAMES", help="some of base,sie-jpm,stride,extract (GPU: base-64,base-256)")
    parser.add_argument("--rounds", type=int, default=0, help="measurements of each, 3 if not given (1 if quick)")
    parser.add_argument("--steps", type=int, default=4, help="timed steps per measurement")
    parser.add_argument(
        "--limit", type=float, default=900, metavar="SECONDS", help="stop a measurement that takes longer"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Measure the chosen cases, print them, and return what goes into the JSON file."""
    cases, left_out = choose(args)
    hardware = describe_hardware(args.device)
    print(f"seed {args.seed}", *(f"{key} {value}" for key, value in hardware.items()), sep=" | ", flush=True)
    started = time.time()
    results: list[dict[str, object]] = []
    report = {"seed": args.seed, "quick": args.quick, "hardware": hardware, "cases": results, "left out": left_out}
    for name, case in cases.items():
        print(f"\n{name}: {case.title}", flush=True)
        rows = compare(case, args)
        bars = [judge(bar, rows) for bar in case.bars]
        print(format_rows(rows), *bars, sep="\n", flush=True)
        results.append({"case": name, "title": case.title, "rows": [asdict(row) for row in rows], "bars": bars})
        report["seconds"] = time.time() - started
        if args.json:
            write_text_atomically(args.json, json.dumps(report, indent=1))
    if left_out:
        print(f"\nleft out: {', '.join(left_out)}" + (" (--quick)" if args.quick and not args.cases else ""))
    return report


def choose(args: argparse.Namespace) -> tuple[dict[str, TrainingCase], list[str]]:
    """Return the cases that the arguments name, and the names of the others; `--quick` alone names the first and the last.

    Raises:
        ValueError: an argument is wrong; names it and the way out.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: cuda, but torch finds no GPU here; choose cpu")
    if args.rounds < 0 or args.steps < 1:
        raise ValueError(f"--rounds, --steps: 1 or more, got {args.rounds} and {args.steps}")
    if args.transreid and not (args.transreid / MARKER).is_file():
        raise ValueError(f"--transreid: {args.transreid} holds no {MARKER}; give the root folder of its checkout")
    cases = cuda_cases(args.steps) if args.device == "cuda" else cpu_cases(args.steps)
    first, *_, last = cases
    names = args.cases.split(",") if args.cases else [first, last] if args.quick else list(cases)
    if unknown := [name for name in names if name not in cases]:
        raise ValueError(f"--cases: unknown case {unknown[0]!r}; choose from {','.join(cases)}")
    chosen = {name: quick(cases[name]) if args.quick else cases[name] for name in names}
    return chosen, [name for name in cases if name not in chosen]


def compare(case: TrainingCase, args: argparse.Namespace) -> list[TrainingRow]:
    """Measure the contestants of a case in turns."""
    rows = {name: TrainingRow(name) for name in case.jobs}
    for _ in range(args.rounds or (1 if args.quick else 3)):
        for name, job in case.jobs.items():
            row = rows[name]
            if row.skipped:
                continue
            if job.contestant == "original" and args.transreid is None:
                row.skipped = "no checkout given (--transreid)"
                continue
            checkout = str(args.transreid.absolute()) if args.transreid else None
            found = in_fresh_process(replace(job, checkout=checkout, seed=args.seed), args.limit)
            row.skipped = found.failure
            row.runs += [] if found.failure else [found]
    return list(rows.values())


def in_fresh_process(job: TrainingJob, limit: float) -> TrainingMeasurement:
    """Measure a job in a fresh process, stopped after `limit` seconds."""
    return ask(WORKER, job, limit, TrainingMeasurement)


def format_rows(rows: list[TrainingRow]) -> str:
    """Return a table: images per second (median, slowest and fastest step of all runs), memory, number format."""
    lines = [f"{'contestant':<26}{'img/s':>9}{'min - max':>18}{'MB':>9}  {'format':<10}{'of peak':>8}{'runs':>6}"]
    for row in rows:
        if row.speed is None:
            lines.append(f"{row.contestant:<26}  {row.skipped}")
            continue
        low = min(run.slowest or 0 for run in row.runs)
        high = max(run.fastest or 0 for run in row.runs)
        used = row.runs[0].utilisation
        peak = f"{row.peak_mb:,.0f}" if row.peak_mb else "-"
        lines.append(
            f"{row.contestant:<26}{row.speed:>9.1f}{f'{low:.1f} - {high:.1f}':>18}{peak:>9}  "
            f"{row.runs[0].precision:<10}{f'{100 * used:.0f} %' if used else '-':>8}{len(row.runs):>6}"
        )
        lines += [f"{'':<26}  then: {row.skipped}"] if row.skipped else []
    return "\n".join(lines)


def judge(bar: TrainingBar, rows: list[TrainingRow]) -> str:
    """Return one line: the bar, the measured value, and whether it is met."""
    by_name = {row.contestant: row for row in rows}
    own = by_name[bar.who]
    if not bar.than:
        what, peak = f"bar: {bar.who} under {bar.gigabytes:g} GB", own.peak_mb
        if peak is None:
            return f"{what}: not measured"
        return f"{what}: {peak / 1000:.2f}, {'met' if peak < 1000 * bar.gigabytes else 'missed'}"
    what, other = f"bar: {bar.who} at least {bar.factor:g} x {bar.than}", by_name[bar.than]
    if own.speed is None or other.speed is None:
        return f"{what}: not measured"
    ratio = own.speed / other.speed
    return f"{what}: {ratio:.2f}, {'met' if ratio >= bar.factor else 'missed'}"


if __name__ == "__main__":
    sys.exit(main())
