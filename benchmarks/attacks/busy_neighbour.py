"""Embedding next to busy programs: `python benchmarks/attacks/busy_neighbour.py [--busy 0 1 2] [--quick] [--json FILE]`.

A batch is embedded in shares, by threads that compute their images alone, and whole, by threads that share each operation, in
turns. Meanwhile programs that do nothing but count keep cores busy, as other users' programs or a server's decoders would.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import spread, spread_text
from vitreid.benchmarks.shipping import MODELS, make_weights
from vitreid.common.machine.turns import in_turns
from vitreid.common.text import table
from vitreid.processor import thread_shares
from vitreid.processor.embedding.embedder import Embedder

SHARES, WHOLE = "in shares", "whole"
COUNTING = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "small crops, two rounds", "of the weights and the crops")
    parser.add_argument("--model", choices=MODELS, default="vit_tiny", help="backbone")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: fp32")
    parser.add_argument("--images", metavar="N", type=int, default=16, help="of a batch")
    parser.add_argument("--rounds", metavar="N", type=int, default=20, help="timed batches of each kind")
    parser.add_argument(
        "--busy", metavar="N", type=int, nargs="+", default=[0, 1, 2], help="busy programs, one table row each"
    )
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure and print; return the content of the JSON file."""
    check_numbers(args, "images", "rounds")
    if args.quick:
        args.images, args.rounds = min(args.images, 8), min(args.rounds, 2)
    report = start_report(args, "cpu") | {
        name: getattr(args, name) for name in ("model", "precision", "images", "rounds")
    }
    size = (64, 32) if args.quick else (256, 128)
    crops = np.random.default_rng(args.seed).integers(0, 256, (args.images, 3, *size), np.uint8)
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        weights = make_weights(Path(folder), args.model, "plain", size, args.seed)
        embedder = Embedder(weights, device="cpu", precision=args.precision)
        report["busy"] = {str(count): measure(embedder, crops, count, args.rounds) for count in args.busy}
    rows = [("busy programs", "seconds in shares", "seconds whole", "whole / in shares")]
    for count, found in report["busy"].items():
        ratio = median(found[WHOLE]) / median(found[SHARES])
        rows.append((count, spread_text(spread(found[SHARES])), spread_text(spread(found[WHOLE])), f"{ratio:.2f}"))
    print(table(rows))
    return save(args, report)


def measure(embedder: Embedder, crops: np.ndarray, busy: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each batch, by kind, next to `busy` programs."""
    cameras = [None] * len(crops)

    def embed(most: int) -> None:
        before, thread_shares.MOST_SHARES = thread_shares.MOST_SHARES, most
        try:
            embedder.embed(crops, cameras)
        finally:
            thread_shares.MOST_SHARES = before

    with busy_programs(busy):
        kinds = {SHARES: partial(embed, thread_shares.MOST_SHARES), WHOLE: partial(embed, 1)}
        return in_turns(kinds, rounds, rounds)


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Run so many programs that each keep a core busy."""
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            programs.append(subprocess.Popen([sys.executable, "-c", COUNTING]))
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
