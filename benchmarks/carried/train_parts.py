"""Trains from packed parts to the last epoch and evaluates: `python benchmarks/carried/train_parts.py PARTS --output DIR --json FILE [KEY VALUE …]`.

PARTS is the folder that `benchmarks/carried/pack_parts.py` wrote. A run that was interrupted is resumed. The exit status is 1 if an aim was missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import torch

from vitreid.benchmarks.carried.pack_parts import NAME, WEIGHTS
from vitreid.benchmarks.common.command import command, new_parser, save, start_report
from vitreid.common.errors import UserError
from vitreid.tools import train as train_tool

RECIPE = "market/vit_small_dinov2"
AIMS = {"mAP": 0.85, "Rank-1": 0.94}


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "without aims", "of the training")
    add = parser.add_argument
    add("parts", metavar="PARTS", type=Path, help="folder of the packed parts")
    add("opts", metavar="KEY VALUE", nargs="*", help="options of the training")
    add("--output", metavar="DIR", type=Path, required=True, help="gets the unpacked data and the run")
    add("--config_file", metavar="FILE", default=RECIPE, help=f"recipe; default: {RECIPE}")
    return parser


def run(args: argparse.Namespace) -> int:
    """Unpack, train, evaluate; print and save the figures."""
    report = start_report(args, "cuda" if torch.cuda.is_available() else "cpu", args.config_file, *args.opts)
    start = time.perf_counter()
    unpack(args.parts, args.output)
    unpacked, folder = time.perf_counter(), args.output / "run"
    words = ["--config_file", args.config_file, "--resume", "auto", "--no-report", *args.opts]
    words += ["DATASETS.ROOT_DIR", str(args.output), "MODEL.PRETRAIN_PATH", str(args.output / WEIGHTS)]
    if status := train_tool.main([*words, "SOLVER.SEED", str(args.seed), "OUTPUT_DIR", str(folder)]):
        raise UserError(f"{args.config_file}: the training ended with status {status}; its log is {folder / 'log.txt'}")
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    report |= {
        "unpacking_seconds": unpacked - start,
        "training_seconds": time.perf_counter() - unpacked,
        "epochs": last["epoch"],
        "images_per_second": last["images_per_second"],
        **{key: last[key] for key in ("mAP", "mINP", "Rank-1")},
    }
    missed = [] if args.quick else [key for key, least in AIMS.items() if report[key] < least]
    save(args, report | {"aims": AIMS, "missed": missed})
    print(
        f"epoch {last['epoch']}: {100 * report['mAP']:.2f} mAP, {100 * report['Rank-1']:.2f} Rank-1 after "
        f"{report['training_seconds']:.0f} s; {as_aims(missed, args.quick)}"
    )
    return bool(missed)


def as_aims(missed: list[str], is_quick: bool) -> str:
    """Return what became of the aims.

    >>> as_aims(["mAP"], False)
    'aims 85 mAP, 94 Rank-1: missed mAP'
    """
    aims = ", ".join(f"{100 * least:g} {key}" for key, least in AIMS.items())
    return f"aims {aims}: {'not asked' if is_quick else 'missed ' + ', '.join(missed) if missed else 'met'}"


def unpack(parts: Path, output: Path) -> None:
    """Unpack all parts.

    Raises:
        FileNotFoundError: there are none.
        UserError: one is missing or damaged.
    """
    files = sorted(parts.glob("part-*.tar"))
    if not files:
        raise FileNotFoundError(f"{parts}: no part-01.tar; pack them with benchmarks/carried/pack_parts.py")
    for number, path in enumerate(files, 1):
        if path.name != NAME.format(number):
            raise UserError(f"{parts}: {NAME.format(number)} is missing; copy it again")
        try:
            with tarfile.open(path) as tar:
                tar.extractall(output, filter="data")
        except tarfile.TarError as error:
            raise UserError(f"{path} is damaged ({error}); copy it again") from error
    if not (output / WEIGHTS).is_file():
        raise UserError(f"{parts}: the last part, which holds {WEIGHTS}, is missing; copy it again")


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
