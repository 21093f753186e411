"""Train: `python tools/train.py --config_file configs/market/vit_base.yml [KEY VALUE …]`."""

from __future__ import annotations

import argparse
import sys

from vitreid.configs import load_config
from vitreid.processor import train
from vitreid.tools.cli import make_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = make_parser("Train a re-identification model; the results are in the folder OUTPUT_DIR.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="LAST.PTH",
        help="go on from OUTPUT_DIR/last.pth if it is there, or from this file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in OUTPUT_DIR")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, train, return the exit status."""
    args = get_parser().parse_intermixed_args(_resume_without_file(sys.argv[1:] if argv is None else argv))
    return run(lambda: train(load_config(args.config_file, args.opts), args.resume, args.overwrite), args.traceback)


def _resume_without_file(words: list[str]) -> list[str]:
    """Keep `--resume KEY VALUE` from taking KEY for the file: only `auto` and `….pth` belong to --resume."""
    following = [*words[1:], ""]
    return [
        "--resume=auto" if word == "--resume" and not (after == "auto" or after.endswith(".pth")) else word
        for word, after in zip(words, following)
    ]


if __name__ == "__main__":
    sys.exit(main())
