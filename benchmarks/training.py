"""Speed and memory of a training step: `python benchmarks/training.py [--transreid DIR] [--quick] [--json FILE]`.

The original TransReID's model, losses and optimizer step are compared with ours on the same random crops of 751 people. Each
measurement is a fresh process, and the contestants take turns, since a machine's speed drifts; a table shows medians with
minimum and maximum.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser
from vitreid.benchmarks.common.contest_runner import Column, add_contest, compare, run_contest
from vitreid.benchmarks.common.measurement import OURS, Bar
from vitreid.benchmarks.workers.training_worker import TrainingJob

WORKER = Path(__file__).parent / "workers" / "training_worker.py"
PEERS = {"transreid": "model/backbones/vit_pytorch.py"}
AS_WRITTEN, PATCHED = "TransReID as written", "TransReID + autocast"
COLUMNS = (
    Column("img/s (slowest - fastest step)", "speed", ".1f", is_spread=True, low="slowest", high="fastest"),
    Column("MB", "peak_mb", ",.0f"),
    Column("GPU MB", "gpu_mb", ",.0f"),
    Column("format", "precision"),
    Column("of peak", "utilisation", ".0%"),
)


@dataclass(frozen=True)
class TrainingCase:
    """A comparison: contestants by their names in the table, and the bars that they must reach."""

    title: str
    jobs: dict[str, TrainingJob]
    bars: tuple[Bar, ...] = ()


def _speed(least: float, than: str, who: str = OURS) -> Bar:
    """Return the bar for `who`'s images per second, in units of those of `than`."""
    return Bar("speed", least=least, than=than, who=who)


def training_jobs(recipe: str, original: str, batch: int, steps: int) -> dict[str, TrainingJob]:
    """Return the four contestants of a recipe on a CPU: each side in float32 and in the number format of this machine."""
    theirs, ours = (TrainingJob(name, recipe, original, batch, steps) for name in ("original", OURS))
    exact_theirs, exact_ours = (replace(job, precision="fp32") for job in (theirs, ours))
    return {AS_WRITTEN: exact_theirs, PATCHED: theirs, "vitreid float32": exact_ours, OURS: ours}


def cpu_cases(steps: int) -> dict[str, TrainingCase]:
    """Return the cases for a CPU; the bars are those of a machine that computes in bf16."""
    names = ("vit_base", "vit_transreid", "vit_transreid_stride")
    base, jpm, stride = (training_jobs(f"market/{name}", f"Market/{name}.yml", 32, steps) for name in names)
    extract = TrainingJob("extraction", "market/vit_base", "", 32, steps)
    base_bars = (_speed(4, AS_WRITTEN), _speed(1.15, PATCHED), _speed(1, AS_WRITTEN, "vitreid float32"))
    stride_bars = (_speed(4, AS_WRITTEN), _speed(1.3, PATCHED), Bar("peak_mb", most=5000))
    return {
        "base": TrainingCase("ViT-Base, batch 32: forward, losses, backward, SGD", base, base_bars),
        "sie-jpm": TrainingCase("the same with SIE and JPM", jpm, (_speed(4.5, AS_WRITTEN),)),
        "stride": TrainingCase("SIE, JPM and stride 12", stride, stride_bars),
        "extract": TrainingCase(
            "embeddings of image files, ViT-Base, compared with the model's forward pass alone",
            {"bare forward": replace(extract, contestant="bare forward"), "extraction": extract},
            (_speed(0.9, "bare forward", "extraction"),),
        ),
    }


def cuda_cases(steps: int) -> dict[str, TrainingCase]:
    """Return the cases for a GPU: two batch sizes, torch.compile, and the memory of micro-batches."""

    def case(batch: int) -> TrainingCase:
        jobs = training_jobs("market/vit_base", "Market/vit_base.yml", batch, steps)
        ours = jobs[OURS]
        del jobs[AS_WRITTEN]
        jobs["vitreid compiled"] = replace(ours, opts=("SOLVER.COMPILE", "True"))
        for size in (8, 16, 64):
            if size < batch:
                jobs[f"vitreid, micro-batch {size}"] = replace(ours, opts=("SOLVER.MICRO_BATCH", str(size)))
        return TrainingCase(f"ViT-Base, batch {batch}", jobs, (_speed(3, PATCHED),))

    return {"base-64": case(64), "base-256": case(256), "extract": cpu_cases(steps)["extract"]}


def quick(case: TrainingCase) -> TrainingCase:
    """Return the case with 8 small images and one step, which checks that everything runs."""
    jobs = {who: replace(job, batch=8, steps=1, size=(64, 32)) for who, job in case.jobs.items()}
    return replace(case, jobs=jobs, bars=())


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "8 small images, one step, one round: under a minute", "of weights and images")
    add_contest(parser, "base,sie-jpm,stride,extract (GPU: base-64,base-256)", 900, PEERS)
    parser.add_argument("--steps", type=int, default=4, help="timed steps per measurement")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure the chosen cases, print them, and return what goes into the JSON file."""
    check_numbers(args, "steps")
    cases = cases_of(args)
    first, *_, last = cases
    return run_contest(args, cases, (first, last), PEERS, run_cases)


def cases_of(args: argparse.Namespace) -> dict[str, TrainingCase]:
    """Return the cases of the device, in full size or quick."""
    cases = (cuda_cases if args.device == "cuda" else cpu_cases)(args.steps)
    return {name: quick(case) if args.quick else case for name, case in cases.items()}


def run_cases(args: argparse.Namespace, names: list[str]) -> Iterator[Report]:
    """Measure and print the cases; yield the figures of each."""
    checkout = str(args.transreid.absolute()) if args.transreid else None
    cases = cases_of(args)
    for name in names:
        case = cases[name]
        jobs = {
            who: replace(job, checkout=checkout, seed=args.seed, device=args.device) for who, job in case.jobs.items()
        }
        absent = "" if checkout else "no checkout given (--transreid)"
        skipped = {who: absent if job.contestant == "original" else "" for who, job in jobs.items()}
        headline = f"{name}: {case.title}"
        found = compare(args, headline, WORKER, skipped, jobs.__getitem__, COLUMNS, case.bars)
        yield {"case": name, "title": case.title, **found}


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
