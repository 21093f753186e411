"""What the benchmarks' command lines share. Imports nothing whose memory would count in a measurement."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.common.errors import MissingPackageError, UserError
from vitreid.common.files import write_text_atomically

Report = dict[str, Any]  # what the JSON file holds
MAY_BE_ZERO = ("seed", "workers")


def new_parser(about: str | None, quick: str, seed: str = "") -> argparse.ArgumentParser:
    """Return a parser with --json, --quick and --seed.

    Args:
        about: the benchmark's docstring; the text before its command becomes the description.
        quick, seed: what these options do; without `seed` there is no such option.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(about or "").partition(" `python")[0].rstrip(":"))
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    if seed:
        parser.add_argument("--seed", type=int, default=0, help=seed)
    return parser


def command(
    get_parser: Callable[[], argparse.ArgumentParser],
    run: Callable[[argparse.Namespace], object],
    argv: list[str] | None = None,
) -> int:
    """Run a benchmark; return the exit status: 0 or the number that `run` returns, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    args = get_parser().parse_args(argv)
    try:
        if args.json and (args.json.is_dir() or not args.json.absolute().parent.is_dir()):
            raise UserError(f"--json: {args.json} is a folder, or lies in none; give a file in an existing folder")
        check_numbers(args, "seed")
        status = run(args)
    except KeyboardInterrupt:
        return 130
    except (UserError, OSError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def check_numbers(args: argparse.Namespace, *names: str) -> None:
    """Raise UserError for an argument that is not above 0; some may be 0."""
    for name in names:
        value, can_be_zero = getattr(args, name, None), name in MAY_BE_ZERO
        if value is not None and not (value >= 0 if can_be_zero else value > 0):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: {value:g}; give {'0 or more' if can_be_zero else 'more than 0'}")


def start_report(args: argparse.Namespace, device: str, *about: str) -> Report:
    """Print what the figures are measured on; return the report that starts with it."""
    report: Report = {"seed": args.seed} if "seed" in args else {}
    hardware = describe_hardware(device)
    texts = [f"{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in hardware.items()]
    print(*(f"{key} {value}" for key, value in report.items()), *about, *texts, sep=" | ", flush=True)
    return {**report, "quick": args.quick, "hardware": hardware}


def save(args: argparse.Namespace, report: Report) -> Report:
    """Write the report to the file of --json, if there is one; return it."""
    if args.json:
        write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


def collect(args: argparse.Namespace, report: Report, results: Iterable[Report], key: str = "cases") -> Report:
    """Append each result to `report[key]` and save the report; return it."""
    started = time.time()
    report[key] = []
    for result in results:
        report[key].append(result)
        save(args, report | {"seconds": time.time() - started})
    return report
