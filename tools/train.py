"""Train a re-identification model; the results are in the folder OUTPUT_DIR.

Example:
    vitreid train --config_file market/vit_base DATASETS.ROOT_DIR /data OUTPUT_DIR logs/market
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from vitreid.common.errors import UserError
from vitreid.configs import flatten_config, load_config
from vitreid.processor import profile
from vitreid.processor.training.run import train
from vitreid.report import try_to_report
from vitreid.tools.cli.parser import memory_remedy, new_parser, run, threads


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="LAST.PTH",
        help="continue from OUTPUT_DIR/last.pth if it exists, or from this file",
    )
    add(
        "--profile",
        type=int,
        metavar="N",
        help="measure N steps, print where their time goes and leave; no run is made or changed",
    )
    add("--overwrite", action="store_true", help="replace an earlier run in OUTPUT_DIR")
    add("--no-report", action="store_true", help="leave out report.html at the end")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, train, return the exit status."""
    args = get_parser().parse_intermixed_args(_resume_without_file(sys.argv[1:] if argv is None else argv))

    def with_threads() -> None:
        with threads(args.threads, steady=True):
            act(args)

    return run(with_threads, args.traceback, memory_remedy(args))


def act(args: argparse.Namespace) -> None:
    """Train, or measure the steps of training."""
    cfg = load_config(args.config_file, args.opts)
    if args.profile is None:
        train(cfg, args.resume, args.overwrite)
        if not args.no_report and os.environ.get("RANK", "0") == "0":
            _report(flatten_config(cfg)["OUTPUT_DIR"])
    elif args.resume or args.overwrite:
        raise UserError("--profile leaves no run: leave out --resume and --overwrite")
    else:
        print(profile(cfg, args.profile).table())


def _report(folder: str) -> None:
    """Write the report of the finished run; an interrupted one says how to make it later."""
    try:
        try_to_report(folder)
    except KeyboardInterrupt:
        print(
            f"interrupted while the report was made; training is finished and its weights are saved in {folder}: "
            f"`vitreid report {shlex.quote(folder)}` makes the report",
            file=sys.stderr,
        )
        raise


def _resume_without_file(words: list[str]) -> list[str]:
    """Keep `--resume KEY VALUE` from taking KEY for the file: only `auto` and `….pth` belong to --resume."""
    following = [*words[1:], ""]
    return [
        "--resume=auto" if word == "--resume" and not (after == "auto" or after.endswith(".pth")) else word
        for word, after in zip(words, following)
    ]


if __name__ == "__main__":
    sys.exit(main())
