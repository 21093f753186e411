"""Measure images per second and latency of a model on this machine, by batch size and runtime, from resized pixels to embeddings.

A checkpoint is exported to a temporary folder for `--forms onnx` and `openvino`. The forms take turns, batch after batch.

Examples:
    vitreid benchmark logs/market/best.safetensors --forms torch onnx openvino
    vitreid benchmark model.onnx --batch 1 8 --json speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import torch

from vitreid import __version__
from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file, write_text_atomically
from vitreid.common.text import table
from vitreid.deploy.throughput import FORMS, Throughput, measure_throughput, open_forms
from vitreid.tools.cli.embedder_flags import add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser, number_from

HEAD = ["batch", "form", "images/s", "median ms", "p95 ms", "least ms", "rounds"]


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("weights", metavar="FILE", help="best.safetensors or last.pth of a run, or a finished model (.onnx, .xml)")
    add(
        "--forms",
        nargs="+",
        choices=FORMS,
        default=[],
        help="default: torch for a checkpoint; for a finished model, the runtimes that are installed",
    )
    add("--batch", nargs="+", metavar="N", type=number_from(1), default=[1, 8, 32], help="batch sizes; default: 1 8 32")
    add("--seconds", metavar="S", type=float, default=5.0, help="time for each form and batch size; default: 5")
    add("--seed", type=int, default=0, help="of the drawn people")
    add("--json", metavar="FILE", help="write the figures to this file")
    add("--overwrite", action="store_true", help="replace an earlier file")
    add_embedder_flags(parser)
    return parser


def benchmark(args: argparse.Namespace) -> str:
    """Measure, write the file if asked, and return the table."""
    if args.seconds < 0:
        raise UserError(f"--seconds: 0 or more, got {args.seconds}")
    if args.json:
        check_output_file("--json", args.json, args.overwrite)
    forms = open_forms(args.weights, args.forms, embedder_options(args), max(args.batch))
    found = measure_throughput(forms, args.batch, args.seconds, args.seed)
    first = next(iter(forms.values()))
    about = {
        "version": __version__,
        "weights": args.weights,
        "model": first.name,
        "dimension": first.dim,
        "size": list(first.preprocess.size),
        "machine": platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": {name: str(one.device) for name, one in forms.items()},
        "seed": args.seed,
    }
    if args.json:
        content = {**about, "rows": [one.to_dict() for one in found]}
        write_text_atomically(Path(args.json), json.dumps(content, indent=2) + "\n")
    height, width = first.preprocess.size
    head = f"{first.name}, {height} x {width} pixels -> {first.dim} numbers, {about['threads']} threads"
    return f"{head}\n{as_table(found)}"


def as_table(found: list[Throughput]) -> str:
    """Return a line per batch size and form."""
    rows = [
        [
            *(str(one.batch), one.form, f"{one.images_per_second:.1f}"),
            *(f"{1000 * value:.1f}" for value in (one.median, one.p95, one.least)),
            str(one.rounds),
        ]
        for one in found
    ]
    return table([HEAD, *rows], left=2)


main = command(get_parser, benchmark)

if __name__ == "__main__":
    sys.exit(main())
