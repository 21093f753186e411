"""Time and memory of the evaluation: `python benchmarks/evaluation.py [--quick] [--json FILE] [--transreid DIR …]`.

The floor is the blocked float32 matrix product alone. Every measurement runs in a fresh process on the same arrays; the
contestants take turns, because a machine's speed drifts; a table shows medians with minimum and maximum.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from vitreid.benchmarks.common.checkouts import Checkout, compile_ranks
from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.benchmarks.contest.cases import CASES, K1, K2, LAM, QUICK_CASES, EvaluationCase, quick
from vitreid.benchmarks.contest.contestants import CONTESTANTS, FLOOR, OURS, PEERS
from vitreid.benchmarks.contest.evaluation_table import format_table, judge, plain_rows
from vitreid.benchmarks.contest.evaluation_worker import EvaluationJob
from vitreid.benchmarks.contest.problems import write_problem
from vitreid.benchmarks.contest.random_features import DIM
from vitreid.benchmarks.contest.rounds import EvaluationSetting, compare, in_fresh_process
from vitreid.common.files import write_text_atomically

ROUNDS, QUICK_ROUNDS = 3, 1


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(description="Time and memory of the evaluation, compared with other projects.")
    parser.add_argument("--quick", action="store_true", help="little data, one round, no Cython: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file, after each case")
    parser.add_argument("--data", metavar="DATA_ROOT", type=Path, help="folder with Market-1501 and MSMT17, for labels")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="DIR", type=Path, help=f"checkout of {name}")
    parser.add_argument("--cases", metavar="NAMES", help=f"some of {','.join(CASES)}; all unless --quick")
    parser.add_argument(
        "--contestants",
        metavar="NAMES",
        help="measure these in addition to floor and vitreid, e.g. 'TransReID,fast-reid jaccard'",
    )
    parser.add_argument(
        "--rounds", type=int, help=f"measurements of each, {ROUNDS} if not given ({QUICK_ROUNDS} if quick)"
    )
    parser.add_argument(
        "--limit", type=float, default=1800, metavar="SECONDS", help="stop a measurement that takes longer"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the features")
    parser.add_argument("--seed", type=int, default=0, help="of labels and features")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Measure all the chosen cases, print them, and return what goes into the JSON file."""
    check_arguments(args)
    cases = find_cases(args.cases, args.quick)
    started = time.time()
    hardware = describe_hardware(args.device)
    report: dict[str, object] = {"seed": args.seed, "quick": args.quick, "hardware": hardware}
    print(f"seed {args.seed}", *(f"{key} {_plain(value)}" for key, value in hardware.items()), sep=" | ")
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        setting = make_setting(args, Path(folder))
        results: list[dict[str, object]] = []
        for result in run_cases(args, setting, cases, Path(folder)):
            results.append(result)
            report |= {"cases": results, "seconds": time.time() - started}
            if args.json:
                write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for a wrong argument; names the argument, its value and the values accepted."""
    if args.rounds is not None and args.rounds < 1:
        raise ValueError(f"--rounds: 1 or more, got {args.rounds}")
    if not args.limit > 0:
        raise ValueError(f"--limit: seconds above 0, got {args.limit}")
    if args.seed < 0:
        raise ValueError(f"--seed: 0 or more, got {args.seed}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: cuda, but torch finds no GPU here; choose cpu")
    if args.data and not args.data.is_dir():
        raise ValueError(f"--data: no folder {args.data}; give the folder that holds market1501, or leave it out")
    known = sorted({name for group in CONTESTANTS.values() for name in group})
    if unknown := sorted(set(names_of(args.contestants) or ()) - set(known)):
        raise ValueError(f"--contestants: unknown name {unknown[0]!r}; choose from {','.join(known)}")
    for name, peer in PEERS.items():
        folder = getattr(args, name)
        if folder and not (folder / peer.marker).is_file():
            raise ValueError(f"--{name}: {folder} holds no {peer.marker}; give the root folder of its checkout")


def names_of(text: str | None) -> frozenset[str] | None:
    """Return the names in "a,b"; None if not given."""
    return None if text is None else frozenset(name.strip() for name in text.split(",") if name.strip())


def find_cases(names: str | None, is_quick: bool) -> list[EvaluationCase]:
    """Return the cases named in "a,b"; None = all of them, or the quick ones.

    Raises:
        ValueError: a name is unknown; the message lists the known ones.
    """
    chosen = names.split(",") if names else list(QUICK_CASES if is_quick else CASES)
    for name in chosen:
        if name not in CASES:
            raise ValueError(f"--cases: unknown case {name!r}; choose from {','.join(CASES)}")
    cases = [case for name in dict.fromkeys(chosen) for case in CASES[name]]
    return quick(cases) if is_quick else cases


def make_setting(args: argparse.Namespace, folder: Path) -> EvaluationSetting:
    """Find the peers' checkouts, and compile their Cython parts in `folder`."""
    checkouts: dict[str, Checkout] = {}
    not_compiled: dict[str, str] = {}
    for name, peer in PEERS.items():
        if (given := getattr(args, name)) is None:
            continue
        checkouts[name] = Checkout(given.absolute())
        only = names_of(args.contestants)
        if not peer.cython or (only is not None and not any("Cython" in contestant for contestant in only)):
            continue
        if args.quick:
            not_compiled[name] = "not compiled with --quick"
            continue
        try:
            checkouts[name] = Checkout(given.absolute(), compile_ranks(given / peer.cython, folder / name))
        except (RuntimeError, OSError) as error:
            not_compiled[name] = str(error)
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    only = names_of(args.contestants)
    return EvaluationSetting(args.device, rounds, checkouts, not_compiled, in_fresh_process(args.limit), only)


def run_cases(
    args: argparse.Namespace, setting: EvaluationSetting, cases: list[EvaluationCase], folder: Path
) -> Iterator[dict[str, object]]:
    """Measure and print the cases, grouped by problem; yield the figures of each."""
    order = list(dict.fromkeys(case.problem for case in cases))
    cases = sorted(cases, key=lambda case: order.index(case.problem))
    for problem, group in itertools.groupby(cases, key=lambda case: case.problem):
        with tempfile.TemporaryDirectory(dir=folder) as arrays:
            counts = write_problem(Path(arrays), problem, args.data, args.seed)
            for case in group:
                yield run_case(setting, case, Path(arrays), counts)


def run_case(
    setting: EvaluationSetting, case: EvaluationCase, arrays: Path, counts: dict[str, object]
) -> dict[str, object]:
    """Measure one case, print its table, and return its figures."""
    about = counts | ({"num_gallery": case.gallery} if case.gallery else {})
    size = int(str(about["num_queries"])), int(str(about["num_gallery"]))
    print(f"\n{describe(case, about)}", flush=True)
    job = EvaluationJob(case.task, FLOOR, str(arrays), case.gallery)
    rows = compare(setting, job, size, (FLOOR, OURS) if case.gallery else None)
    print(format_table(rows, setting.device))
    bars = judge(rows, case.bar)
    print(*(f"bar: {line}" for line in bars), sep="\n", end="\n" if bars else "", flush=True)
    return {"case": case.name, "task": case.task, **about, "dim": DIM, "contestants": plain_rows(rows), "bars": bars}


def describe(case: EvaluationCase, about: dict[str, object]) -> str:
    """Return the headline of a case's table."""
    sizes = f"{about['num_queries']:,} queries x {about['num_gallery']:,} gallery, {DIM}-d float32"
    task = "" if case.task == "ranking" else f", k-reciprocal re-ranking k1={K1} k2={K2} lambda={LAM}, floor: all x all"
    if case.gallery:
        return f"{case.name}: {sizes}, random features"
    people = f"{about['num_ids']:,} people, {about['num_cameras']} cameras, {about['num_distractors']:,} distractors"
    return f"{case.name}: {sizes}{task}; labels: {about['labels']}, {people}"


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
