"""Look at the data sets of a config before training.

Exit status: 0 = no problem (there may be warnings), 1 = a problem was found, 2 = the check could not be made.

Example:
    vitreid check-data --config_file market/vit_base DATASETS.ROOT_DIR /data --montage people.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file, write_text_atomically
from vitreid.configs import flatten_config, load_config
from vitreid.datasets.checks import (
    MOST_BITS,
    NEAR_BITS,
    CheckReport,
    build_check_names,
    build_checks,
    check_name,
    conflicts_file,
    draw_montage,
    write_manifest,
    write_montage,
)
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add("--montage", metavar="FILE", help="picture to make: random images, a row per person, a column per camera")
    add(
        "--fix",
        metavar="FILE",
        help="CSV file to write, for DATASETS.NAMES manifest: without unreadable files and superfluous copies; images stay as they are",
    )
    add("--json", metavar="FILE", help="write counts and findings for programs")
    add("--overwrite", action="store_true", help="replace such files if they exist")
    add(
        "--near-bits",
        metavar="N",
        type=int,
        default=NEAR_BITS,
        help=f"bits of 64 by which the hashes of near copies may differ, 0 to {MOST_BITS}; -1 = do not look for them; default {NEAR_BITS}",
    )
    return parser


def check_data(args: argparse.Namespace) -> list[CheckReport]:
    """Print the findings of each data set, write the files asked for, and return the reports."""
    cfg = load_config(args.config_file, args.opts)
    _check_outputs(args, len(build_check_names(cfg)), flatten_config(cfg)["DATASETS.MANIFEST"])
    checked = build_checks(cfg, args.near_bits if args.near_bits >= 0 else None)
    for one in checked:
        print(one.text + "\n")
    if args.json:
        write_text_atomically(args.json, json.dumps([one.as_dict() for one in checked], indent=1) + "\n")
    if args.montage:
        write_montage(Path(args.montage), draw_montage(checked[0].listing, set(checked[0].scan.problems)))
    if args.fix:
        write_manifest(Path(args.fix), checked[0].listing, checked[0].scan, checked[0].exact)
    return checked


def _check_outputs(args: argparse.Namespace, num_sets: int, manifest: str) -> None:
    """Refuse wrong arguments before the images are read, which takes minutes."""
    if not -1 <= args.near_bits <= MOST_BITS:
        raise UserError(f"--near-bits: 0 to {MOST_BITS}, or -1 to look for none, got {args.near_bits}")
    if (args.fix or args.montage) and num_sets > 1:
        raise UserError("--fix and --montage take one data set at a time; name one in DATASETS.NAMES and DATASETS.TEST")
    if args.montage:
        check_name(Path(args.montage))
    taken: dict[Path, str] = {}
    for option, file in _outputs(args):
        if manifest and file.resolve() == Path(manifest).expanduser().resolve():
            raise UserError(f"{option}: {file} is the manifest that is checked; choose another name")
        if (other := taken.setdefault(file.resolve(), option)) != option:
            raise UserError(f"{option}: {file} is written by {other} too; give each another name")
        check_output_file(option, file, args.overwrite)


def _outputs(args: argparse.Namespace) -> list[tuple[str, Path]]:
    """Return the files that may be written, each with its option."""
    wanted = {"--json": args.json, "--montage": args.montage, "--fix": args.fix}
    files = [(option, Path(file)) for option, file in wanted.items() if file]
    return [*files, *((option, conflicts_file(file)) for option, file in files if option == "--fix")]


main = command(get_parser, lambda args: all(one.is_usable for one in check_data(args)))

if __name__ == "__main__":
    sys.exit(main())
