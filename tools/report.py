"""Write one HTML page about a run, or about the differences of several, and its pictures as PNG files.

Examples:
    vitreid report logs/market
    vitreid report logs/first logs/second --output comparison.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile

from vitreid.configs import OPTIONS
from vitreid.report import ReportOptions, write_report
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="RUN [KEY VALUE]",
        help="run folders; options after them apply to the report only, e.g. DATASETS.ROOT_DIR /new/place if the images have moved",
    )
    add(
        "--output",
        metavar="FILE",
        help="the page; default: report.html (several runs: comparison.html) in the first folder",
    )
    add(
        "--queries",
        type=int,
        default=6,
        metavar="N",
        help="number of the hardest queries, and of the best; default 6",
    )
    add("--map", choices=("tsne", "pca", "none"), default="tsne", help="method of the map of embeddings; default tsne")
    add("--no-model", action="store_true", help="do not run the model: show curves, options and saved features only")
    add("--no-pictures", action="store_true", help="leave out all pictures of people: a page that can be shared")
    return parser


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the run folders and, from the first config key on, the KEY VALUE pairs.

    >>> split(["logs/a", "logs/b", "MODEL.DEVICE", "cpu"])
    (['logs/a', 'logs/b'], ['MODEL.DEVICE', 'cpu'])
    """
    folders = list(takewhile(lambda argument: argument not in OPTIONS, arguments))
    return folders, list(arguments[len(folders) :])


def make_report(args: argparse.Namespace) -> None:
    """Write the report of the runs."""
    folders, overrides = split(args.runs)
    shown = ReportOptions(
        num_queries=args.queries,
        model=not args.no_model,
        model_pictures=not args.no_pictures,
        pictures=not args.no_pictures,
        map_method=args.map,
    )
    write_report(folders, args.output, overrides=overrides, shown=shown)


main = command(get_parser, make_report)

if __name__ == "__main__":
    sys.exit(main())
