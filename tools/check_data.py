"""Look at a data set before training: `python tools/check_data.py --config_file configs/market/vit_base.yml DATASETS.ROOT_DIR /data`.

Exit status: 0 = no problem (there may be warnings), 1 = a problem was found, 2 = the check could not be made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vitreid.configs import load_config
from vitreid.datasets.checks import (
    MOST_BITS,
    NEAR_BITS,
    Checked,
    build_checks,
    conflicts_file,
    draw_montage,
    write_manifest,
    write_montage,
)
from vitreid.tools.cli import make_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = make_parser(
        "Look at the data sets of a config before training. Exit status 1: a problem was found; 2: they could not be checked."
    )
    parser.add_argument(
        "--montage", metavar="FILE", help="picture to make: random images, a row per person, a column per camera"
    )
    parser.add_argument(
        "--fix",
        metavar="FILE",
        help="CSV file to write, for DATASETS.NAMES manifest: without unreadable files and superfluous copies; images stay as they are",
    )
    parser.add_argument("--json", metavar="FILE", help="write counts and findings for programs")
    parser.add_argument("--overwrite", action="store_true", help="replace such files if they exist")
    parser.add_argument(
        "--near-bits",
        metavar="N",
        type=int,
        default=NEAR_BITS,
        help=f"bits of 64 by which the hashes of near copies may differ, 0 to {MOST_BITS}; -1 = do not look for them; default {NEAR_BITS}",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, check, return the exit status."""
    args = get_parser().parse_intermixed_args(argv)
    checked: list[Checked] = []
    status = run(lambda: checked.extend(check_data(args)), args.traceback)
    return status or int(not all(one.is_usable for one in checked))


def check_data(args: argparse.Namespace) -> list[Checked]:
    """Do what the arguments say."""
    cfg = load_config(args.config_file, args.opts)
    _check_outputs(args, cfg.DATASETS.MANIFEST)
    checked = build_checks(cfg, args.near_bits if args.near_bits >= 0 else None)
    if len(checked) > 1 and (args.fix or args.montage):
        raise ValueError(
            "--fix and --montage take one data set at a time; name one in DATASETS.NAMES and DATASETS.TEST"
        )
    for one in checked:
        print(one.text + "\n")
    if args.json:
        Path(args.json).write_text(json.dumps([one.as_dict() for one in checked], indent=1) + "\n", encoding="utf-8")
    if args.montage:
        write_montage(Path(args.montage), draw_montage(checked[0].listing, set(checked[0].scan.problems)))
    if args.fix:
        write_manifest(Path(args.fix), checked[0].listing, checked[0].scan, checked[0].exact)
    return checked


def _check_outputs(args: argparse.Namespace, manifest: str) -> None:
    """Refuse before the long reading what would be refused after it."""
    wanted = {"--json": args.json, "--montage": args.montage, "--fix": args.fix}
    files = [(option, Path(file)) for option, file in wanted.items() if file]
    for option, file in files:
        if option == "--fix" and manifest and file.resolve() == Path(manifest).expanduser().resolve():
            raise ValueError(f"--fix: {file} is the manifest that is checked; give the cleaned one another name")
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{option}: no folder {str(file.parent)!r}; make it first")
        for written in (file, *([conflicts_file(file)] if option == "--fix" else [])):
            if written.exists() and not args.overwrite:
                raise FileExistsError(f"{option}: {written} exists; choose another name, or add --overwrite")


if __name__ == "__main__":
    sys.exit(main())
