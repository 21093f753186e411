"""Throughput of an export compared with the bare model: `python benchmarks/export.py [--quick] [--json FILE] [--input SOURCE]`.

The bare model receives the same number of images as prepared tensors; an export also reads, decodes and resizes files, and
writes a gallery. The two take turns in one process, since a machine's speed drifts. The models are untrained, of the paper's
sizes: training does not change their speed. Loading the weights is excluded from both.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.benchmarks.shipping import MODELS, make_weights
from vitreid.common.files import write_text_atomically
from vitreid.gallery.export.export_job import ExportJob
from vitreid.gallery.export.export_plan import make_plan
from vitreid.gallery.export.sources import Source, open_source
from vitreid.processor import Embedder, autocast
from vitreid.processor.distributed.process_group import ALONE

SHARE = 0.9  # the bar: export / bare model, images per second
HEAD = ("model", "precision", "bare img/s", "export img/s", "export / bare", "the same, CPU time")
Report = dict[str, Any]


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(description="Images per second of an export and of the bare model.")
    parser.add_argument("--quick", action="store_true", help="vit_tiny, small crops, two rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--input",
        metavar="SOURCE",
        help="images: what tools/export.py takes; default: crops of 128 x 64 that are drawn",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets, for DATASET:SPLIT")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="backbones; default: both")
    parser.add_argument("--count", metavar="N", type=int, default=256, help="images per round, the first of the input")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="images per pass through the model")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="of bare model and export in turn")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of weights and drawn crops")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> Report:
    """Measure everything, print it, and return what goes into the JSON file."""
    if args.quick:
        args.models, args.count, args.rounds = ["vit_tiny"], min(args.count, 64), 2
    for name in ("count", "batch_size", "rounds"):
        if (value := getattr(args, name)) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: 1 or more, got {value}")
    size = (128, 64) if args.quick else (256, 128)
    report: Report = {"seed": args.seed, "quick": args.quick, "size": size, "input": args.input or "drawn", "rows": []}
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as name:
        folder = Path(name)
        source = first_images(
            open_source(args.input or str(draw(folder, args.count, args.seed)), args.root), args, folder
        )
        for model in args.models:
            embedder = Embedder(
                make_weights(folder, model, "plain", size, args.seed), args.device, args.precision, args.batch_size
            )
            if not report["rows"]:
                report["hardware"] = describe_hardware(embedder.device.type)
                print(f"seed {args.seed}", f"crops {size}", f"batches of {args.batch_size}", end=" | ")
                print(*(f"{key} {value}" for key, value in report["hardware"].items()), sep=" | ")
                print_line(HEAD)
            report["rows"].append(row := {"model": model, **measure(embedder, source, folder / model, args.rounds)})
            print_line(
                [
                    model,
                    row["precision"],
                    *(spread_text(row[name]) for name in ("bare", "export", "share", "cpu_share")),
                ]
            )
    for row in report["rows"]:
        row["met"] = row["share"]["median"] >= SHARE
        print(f"bar: {row['model']}, export / bare, median: {row['share']['median']:.3f}, at least {SHARE}: ", end="")
        print("met" if row["met"] else "missed")
    if args.json:
        write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


def draw(folder: Path, count: int, seed: int) -> Path:
    """Write smooth random crops as JPEG files; return their folder."""
    crops, rng = folder / "crops", np.random.default_rng(seed)
    crops.mkdir()
    for number in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8), (64, 128), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(crops / f"{number:06d}.jpg"), pixels)
    return crops


def first_images(source: Source, args: argparse.Namespace, folder: Path) -> Source:
    """Return a new source with the first `args.count` images of a source of image files."""
    if source.num_readers == 1:
        raise ValueError(f"--input: {args.input} names boxes in videos; give image files")
    manifest = folder / "first.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = itertools.islice(source.rows(), args.count)
        csv.writer(file).writerows([["path"], *([row.path] for row in rows)])
    return open_source(str(manifest))


def measure(embedder: Embedder, source: Source, output: Path, rounds: int) -> Report:
    """Return images per second of bare model and export, and the ratio of each turn: median and extremes.

    `cpu_share` is the ratio of their CPU times, on which other programs have little influence.
    """
    count = sum(1 for _ in source.rows())
    bare, export = bare_model(embedder, count), lambda number: export_to(output / str(number), embedder, source)
    output.mkdir()
    bare(), export("warm-up")
    seconds = np.array([[timed(bare), timed(lambda: export(number))] for number in range(rounds)])  # noqa: B023
    wall, cpu = seconds[..., 0], seconds[..., 1]  # (rounds, bare and export)
    found = {
        "bare": count / wall[:, 0],
        "export": count / wall[:, 1],
        "share": wall[:, 0] / wall[:, 1],
        "cpu_share": cpu[:, 0] / cpu[:, 1],
    }
    precision = str(embedder.precision).removeprefix("torch.")
    about = {"images": count, "batch_size": embedder.batch_size, "precision": precision}
    return {**about, **{name: spread(values.tolist()) for name, values in found.items()}}


def bare_model(embedder: Embedder, count: int) -> Callable[[], None]:
    """Return a function that passes `count` images through the model, from normalised tensors on its device."""
    size, device = embedder.batch_size, embedder.device
    pixels = torch.rand(min(size, count), 3, *embedder.preprocess.size, device=device) - 0.5
    batches = [min(size, count - start) for start in range(0, count, size)]

    @torch.inference_mode()
    def forward() -> None:
        for number in batches:
            with autocast(device, embedder.precision):
                found = embedder.model.embed(pixels[:number], neck=embedder.neck)
        found.cpu()  # wait for the GPU

    return forward


def export_to(output: Path, embedder: Embedder, source: Source) -> None:
    """Run an export as tools/export.py does after loading the weights."""
    ExportJob(output, "gallery", "error", source, embedder, make_plan(embedder, source, "benchmark", "float32")).run(
        ALONE
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the duration of a call in seconds, and the CPU time of the process during it."""
    start, computed = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - computed


def spread(values: list[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread_text(found: dict[str, float]) -> str:
    """Return median, minimum and maximum as text."""
    return f"{found['median']:.3g} ({found['min']:.3g}-{found['max']:.3g})"


def print_line(texts: Any) -> None:
    """Print texts in columns."""
    print(*(f"{text:<22}" if number > 1 else f"{text:<12}" for number, text in enumerate(texts)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
