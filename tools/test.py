"""Evaluate: `python tools/test.py --weights RUN/best.safetensors`, or `--config_file FILE TEST.WEIGHT FILE`."""

from __future__ import annotations

import argparse
import sys

from vitreid.processor import test
from vitreid.tools.cli import make_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = make_parser("Evaluate weights on a test set: CMC, mAP, mINP.")
    parser.add_argument(
        "--weights", metavar="FILE", help="best.safetensors or last.pth of a run, or a file of the original TransReID"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="JSON file for the numbers; metrics.json beside the weights if not given"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, evaluate, return the exit status."""
    args = get_parser().parse_intermixed_args(argv)
    return run(lambda: test(args.weights, args.config_file, args.opts, args.output), args.traceback)


if __name__ == "__main__":
    sys.exit(main())
