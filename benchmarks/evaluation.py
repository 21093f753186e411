"""Time and memory of the evaluation: `python benchmarks/evaluation.py [--quick] [--json FILE] [--transreid DIR …]`.

The floor is the blocked float32 matrix product alone. Every measurement runs in a fresh process on the same arrays; the
contestants take turns, because a machine's speed drifts; a table shows medians with minimum and maximum.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vitreid.benchmarks.common.checkouts import Checkout, compile_ranks
from vitreid.benchmarks.common.command import Report, command, new_parser
from vitreid.benchmarks.common.contest_runner import Column, add_contest, compare, run_contest
from vitreid.benchmarks.contest.cases import CASES, FLOOR, K1, K2, LAM, QUICK_CASES, EvaluationCase, quick
from vitreid.benchmarks.contest.contestants import CONTESTANTS, CYTHON, PEERS
from vitreid.benchmarks.contest.evaluation_setting import EvaluationSetting
from vitreid.benchmarks.contest.problems import DIM, write_problem
from vitreid.common.errors import UserError

WORKER = Path(__file__).parent / "contest" / "evaluation_worker.py"
COLUMNS = (
    Column("seconds (min - max)", "seconds", ".3f", is_spread=True),
    Column("x floor", "seconds", than=FLOOR),
    Column("MB above inputs", "peak_mb", ",.0f"),
    Column("GPU MB", "gpu_mb", ",.0f"),
    Column("mAP", "mAP", ".5f"),
)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "little data, one round, no Cython: under a minute", "of labels and features")
    add_contest(parser, ",".join(CASES), 1800, PEERS)
    parser.add_argument("--data", metavar="DATA_ROOT", type=Path, help="folder with Market-1501 and MSMT17, for labels")
    example = "TransReID,fast-reid jaccard"
    parser.add_argument("--contestants", metavar="NAMES", help=f"next to floor and vitreid, e.g. '{example}'; else all")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure all the chosen cases, print them, and return what goes into the JSON file."""
    if args.data and not args.data.is_dir():
        raise UserError(f"--data: no folder {args.data}; give the folder that holds market1501, or leave it out")
    known = sorted({name for group in CONTESTANTS.values() for name in group})
    if unknown := sorted((chosen_contestants(args) or frozenset()) - {*known, ""}):
        raise UserError(f"--contestants: unknown name {unknown[0]!r}; choose from {','.join(known)}")
    return run_contest(args, CASES, QUICK_CASES, PEERS, run_cases)


def chosen_contestants(args: argparse.Namespace) -> frozenset[str] | None:
    """Return the names of --contestants, None if it is not given."""
    return None if args.contestants is None else frozenset(name.strip() for name in args.contestants.split(","))


def make_setting(args: argparse.Namespace, folder: Path) -> EvaluationSetting:
    """Find the peers' checkouts, and compile their Cython parts in `folder`."""
    checkouts = {name: Checkout(given.absolute()) for name in PEERS if (given := getattr(args, name))}
    only, not_compiled = chosen_contestants(args), dict[str, str]()
    for name in CYTHON.keys() & checkouts.keys():
        if args.quick:
            not_compiled[name] = "not compiled with --quick"
        elif only is None or any("Cython" in contestant for contestant in only):
            root = checkouts[name].folder
            try:
                checkouts[name] = Checkout(root, compile_ranks(root / CYTHON[name], folder / name))
            except (RuntimeError, OSError) as error:
                not_compiled[name] = str(error)
    return EvaluationSetting(args.device, checkouts, not_compiled, only)


def run_cases(args: argparse.Namespace, names: list[str]) -> Iterator[Report]:
    """Measure and print the cases, grouped by problem; yield the figures of each."""
    cases = [case for name in names for case in CASES[name]]
    cases = quick(cases) if args.quick else cases
    order = list(dict.fromkeys(case.problem for case in cases))
    cases = sorted(cases, key=lambda case: order.index(case.problem))
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        setting = make_setting(args, Path(folder))
        for problem, group in itertools.groupby(cases, key=lambda case: case.problem):
            with tempfile.TemporaryDirectory(dir=folder) as arrays:
                counts = write_problem(Path(arrays), problem, args.data, args.seed)
                for case in group:
                    about = counts | ({"num_gallery": case.gallery} if case.gallery else {})
                    yield run_case(args, setting, case, arrays, about)


def run_case(
    args: argparse.Namespace, setting: EvaluationSetting, case: EvaluationCase, arrays: str, about: Report
) -> Report:
    """Measure one case, print its table, and return its figures."""
    size = about["num_queries"], about["num_gallery"]
    skipped = setting.contestants(case.task, size, has_peers=case.gallery is None)
    job_of = partial(setting.job, task=case.task, folder=arrays, gallery=case.gallery)
    found = compare(args, describe(case, about), WORKER, skipped, job_of, COLUMNS, case.bars)
    return {"case": case.name, "task": case.task, **about, "dim": DIM, **found}


def describe(case: EvaluationCase, about: Report) -> str:
    """Return the headline of a case's table."""
    sizes = f"{about['num_queries']:,} queries x {about['num_gallery']:,} gallery, {DIM}-d float32"
    task = "" if case.task == "ranking" else f", k-reciprocal re-ranking k1={K1} k2={K2} lambda={LAM}, floor: all x all"
    if case.gallery:
        return f"{case.name}: {sizes}, random features"
    people = f"{about['num_ids']:,} people, {about['num_cameras']} cameras, {about['num_distractors']:,} distractors"
    return f"{case.name}: {sizes}{task}; labels: {about['labels']}, {people}"


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
