"""Time and memory of one clustering next to a dense matrix: `python benchmarks/galleries/dense_jaccard.py --openunreid DIR [--json FILE]`.

OpenUnReID's Jaccard distances (N x N, in NumPy loops) with scikit-learn's DBSCAN, and ours (pairs of near images only), on the same random
people of `million_crops.py`. Each measurement is a fresh process, and the two take turns. Memory is what the process holds at its peak above what
it held before, so the embeddings do not count.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.contest_runner import Column, compare
from vitreid.benchmarks.common.measurement import OURS, Bar
from vitreid.benchmarks.workers.jaccard_worker import JaccardJob
from vitreid.common.errors import UserError

WORKER = Path(__file__).parents[1] / "workers" / "jaccard_worker.py"
DENSE, MARKER = "OpenUnReID", "openunreid/core/utils/compute_dist.py"
MARKET, QUICK = 12_936, 1000  # training images of Market-1501
COLUMNS = (
    Column("seconds", "seconds", ".1f", is_spread=True),
    Column("MB", "peak_mb", ",.0f"),
    Column("clusters", "clusters", ",.0f"),
    Column("pairwise F", "f1", ".3f"),
    Column("of its time", "seconds", than=DENSE),
    Column("of its memory", "peak_mb", than=DENSE),
)
BARS = (Bar("seconds", most=0.1, than=DENSE), Bar("peak_mb", most=0.1, than=DENSE))


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, f"{QUICK:,} rows, one round", "of the random people")
    parser.add_argument("--openunreid", metavar="DIR", type=Path, help="checkout of OpenUnReID")
    parser.add_argument("--rows", metavar="N", type=int, default=MARKET, help=f"embeddings; default: {MARKET:,}")
    parser.add_argument("--dim", metavar="D", type=int, default=384, help="features of each; default: 384")
    parser.add_argument(
        "--images", metavar="N", type=int, default=17, help="images of a person on average; default: 17"
    )
    parser.add_argument("--rounds", type=int, help="measurements of each, 3 if not given (1 if quick)")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="longest time of a measurement")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print, and return what goes into the JSON file."""
    check_numbers(args, "rows", "dim", "images", "rounds", "limit")
    if args.openunreid and not (args.openunreid / MARKER).is_file():
        raise UserError(f"--openunreid: {args.openunreid} holds no {MARKER}; give the root folder of its checkout")
    job = JaccardJob(min(args.rows, QUICK) if args.quick else args.rows, args.dim, args.images, args.seed)
    dense = replace(job, checkout=str(args.openunreid or ""))
    jobs = {OURS: job, DENSE: dense}
    skipped = {OURS: "", DENSE: "" if args.openunreid else "no checkout; give --openunreid DIR"}
    report = start_report(args, "cpu", f"{job.rows:,} rows x {job.dim}")
    return save(args, {**report, **compare(args, "one clustering", WORKER, skipped, jobs.__getitem__, COLUMNS, BARS)})


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
