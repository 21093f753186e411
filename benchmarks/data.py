"""Speed of data loading: `python benchmarks/data.py [--quick] [--json FILE] [--data ROOT] [--transreid DIR …]`.

Every measurement runs in a fresh process. Contestants take turns, because a machine's speed drifts. Tables show medians with minimum
and maximum. Without --data, synthetic people are drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser
from vitreid.benchmarks.common.contest_runner import Column, add_contest, compare, run_contest
from vitreid.benchmarks.common.measurement import OURS, Bar
from vitreid.benchmarks.workers.data_worker import PEERS, TASKS, LoadingJob
from vitreid.common.errors import UserError
from vitreid.datasets.synthetic.dataset import SyntheticPlan, generate

WORKER = Path(__file__).parent / "workers" / "data_worker.py"
CHECKOUTS = {"transreid": "datasets/make_dataloader.py", "fastreid": "fastreid/data/samplers/triplet_sampler.py"}
SMALL, LARGE = "vit_tiny_patch16_224", "vit_base_patch16_224"
PEOPLE, QUICK_PEOPLE = SyntheticPlan(), SyntheticPlan(32, 4, 2, 3, 4)


@dataclass(frozen=True)
class LoadingCase:
    """One table: a task, settings of its jobs, the figures shown (contestants are compared by the first), and our bars."""

    name: str
    task: str
    about: str
    shown: tuple[str, ...]
    bars: tuple[Bar, ...] = ()
    job: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> list[Column]:
        """Return the columns of the table: the figures, and the ratio of ours to each contestant."""
        specs = {"waiting": ".2%", "longer": ".2%"}
        shown = [Column(name, name, specs.get(name, ""), is_spread=True) for name in self.shown]
        first, is_rate = self.shown[0], self.shown[0] == "img/s"
        return [*shown, Column("vitreid is x times as fast", first, than=OURS, inverse=is_rate)]


def _waiting(name: str, model: str, steps: int) -> LoadingCase:
    shown, bars = ("waiting", "longer", "img/s"), (Bar("waiting", most=0.03),)
    return LoadingCase(name, "waiting", f"training {model}", shown, bars, {"model": model, "steps": (2, steps)})


_AS_FAST = (Bar("img/s", least=8, than="TransReID"),)
CASES = {
    case.name: case
    for case in (
        LoadingCase("train", "train batches", "augmented training batches on the device", ("img/s",), _AS_FAST),
        LoadingCase("test", "test batches", "test batches on the device", ("img/s",), _AS_FAST),
        LoadingCase("decoding", "decoding", "the training set decoded into memory", ("seconds", "MB")),
        LoadingCase("sampler", "sampler", "one epoch of the PK sampler", ("seconds",), (Bar("seconds", most=1),)),
        _waiting("waiting-small", SMALL, steps=30),
        _waiting("waiting-base", LARGE, steps=5),
        LoadingCase(
            "first-step",
            "first step",
            f"from command to first step of {LARGE}",
            ("seconds", "step done"),
            (Bar("seconds", most=20),),
        ),
    )
}
QUICK: dict[str, dict[str, Any]] = {  # jobs under --quick; other cases are left out
    "train": {"steps": (4, 60)},
    "sampler": {"crowd": (100_000, 10_000)},
    "waiting-small": {"steps": (1, 4)},
}


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "fewer batches, small model, one round: under a minute")
    add_contest(parser, ",".join(CASES), 300, CHECKOUTS)
    parser.add_argument("--data", metavar="DATA_ROOT", type=Path, help="folder of market1501; else synthetic people")
    parser.add_argument("--workers", type=int, default=2, help="workers of every loader")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure all the chosen cases, print them, and return what goes into the JSON file."""
    check_numbers(args, "workers")
    if args.data and not (args.data / "market1501").is_dir():
        raise UserError(f"--data: {args.data} holds no market1501; give the folder that does, or leave it out")
    return run_contest(args, CASES, QUICK, CHECKOUTS, run_cases)


def run_cases(args: argparse.Namespace, names: list[str]) -> Iterator[Report]:
    """Measure and print the cases; yield the figures of each."""
    print(f"data: {f'market1501 in {args.data}' if args.data else 'synthetic people (no --data)'}", end="; ")
    print(f"{args.workers} workers")
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        for name in names:
            yield run_case(CASES[name], args, Path(folder))


def job_of(case: LoadingCase, args: argparse.Namespace, folder: Path) -> LoadingJob:
    """Return the job without contestant and checkout; synthetic people are drawn into `folder` if there is no --data."""
    data = args.data or folder
    if not args.data:
        generate(folder / "market1501", QUICK_PEOPLE if args.quick else PEOPLE)
    options = ("OUTPUT_DIR", str(folder / "run")) if case.task == "first step" else ()
    job = LoadingJob(case.task, OURS, str(data.absolute()), device=args.device, workers=args.workers, options=options)
    return replace(job, **{**case.job, **(QUICK.get(case.name, {}) if args.quick else {})})


def run_case(case: LoadingCase, args: argparse.Namespace, folder: Path) -> Report:
    """Measure one case, print its table, and return its figures."""
    job = job_of(case, args, folder)
    size = ", {:,} images of {:,} people".format(*job.crowd) if case.task == "sampler" else ""
    folders = {name: getattr(args, PEERS[name]) if name in PEERS else Path() for name in TASKS[case.task]}
    skipped = {name: "" if there else f"no checkout given (--{PEERS[name]})" for name, there in folders.items()}

    def job_for(name: str) -> LoadingJob:
        checkout = str(folders[name].absolute()) if name in PEERS else ""
        return replace(job, contestant=name, checkout=checkout, started=time.time())

    headline = f"{case.name}: {case.about}{size}, batch {job.batch}"
    bars = () if args.quick else case.bars
    found = compare(args, headline, WORKER, skipped, job_for, case.columns(), bars)
    return {"case": case.name, "job": asdict(job), **found}


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
