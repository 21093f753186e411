"""Throughput of an export compared with the bare model: `python benchmarks/galleries/export.py [--quick] [--json FILE] [--input SOURCE]`.

The bare model receives the same number of images as prepared tensors; an export also reads, decodes and resizes files, and
writes a gallery. The two take turns in one process, since a machine's speed drifts. The models are untrained, of the paper's
sizes: training does not change their speed. Loading the weights is excluded from both.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import Measurement, spread, spread_text, timed, turns, verdict
from vitreid.benchmarks.shipping import add_models, make_weights
from vitreid.common.errors import UserError
from vitreid.common.text import table
from vitreid.gallery.export.export_job import ExportJob
from vitreid.gallery.export.export_plan import make_plan
from vitreid.gallery.export.sources import Source, open_source
from vitreid.processor import Embedder, autocast
from vitreid.processor.device import pick_device, with_cast_weights
from vitreid.processor.distributed.process_group import ALONE

SHARE = 0.9  # the bar: export / bare model, images per second
FIGURES = {"bare": "bare img/s", "export": "export img/s", "share": "export / bare", "cpu_share": "the same, CPU time"}
WIDTHS = (10, 9, *(20,) * len(FIGURES))


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "vit_tiny, small crops, two rounds: under a minute", "of weights and drawn crops")
    parser.add_argument("--input", metavar="SOURCE", help="images, as for `vitreid export`; default: drawn, 128 x 64")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets, for DATASET:SPLIT")
    add_models(parser)
    parser.add_argument("--count", metavar="N", type=int, default=256, help="images per round, the first of the input")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="images per pass through the model")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="of bare model and export in turn")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure everything, print it, and return what goes into the JSON file."""
    if args.quick:
        args.models, args.count, args.rounds = ["vit_tiny"], min(args.count, 64), 2
    check_numbers(args, "count", "batch_size", "rounds")
    size = (128, 64) if args.quick else (256, 128)
    device = pick_device(args.device)
    report = start_report(args, device.type, f"crops {size}", f"batches of {args.batch_size}")
    report |= {"size": size, "input": args.input or "drawn", "rows": []}
    print(table([["model", "precision", *FIGURES.values()]], left=2, widths=WIDTHS))
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as name:
        folder = Path(name)
        given = open_source(args.input or str(draw(folder, args.count, args.seed)), args.root)
        source = first_images(given, args, folder)
        for model in args.models:
            weights = make_weights(folder, model, "plain", size, args.seed)
            embedder = Embedder(weights, args.device, args.precision, args.batch_size)
            report["rows"].append(row := {"model": model, **measure(embedder, source, folder / model, args.rounds)})
            texts = (spread_text(row[name]) for name in FIGURES)
            print(table([[model, row["precision"], *texts]], left=2, widths=WIDTHS), flush=True)
    for row in report["rows"]:
        share = row["share"]["median"]
        row["met"] = share >= SHARE
        print("bar:", verdict(f"{row['model']}, export / bare, median", share, least=SHARE))
    return save(args, report)


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
        raise UserError(f"--input: {args.input} names boxes in videos; give image files")
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
    works: dict[str, Callable[[int], None]] = {
        "bare": bare_model(embedder, count),
        "export": partial(export_to, output, embedder, source),
    }
    output.mkdir()
    for work in works.values():
        work(-1)  # warm up

    def turn(name: str, number: int) -> Measurement:
        wall, cpu = timed(partial(works[name], number))
        return Measurement({"wall": wall, "cpu": cpu})

    bare, export = turns(dict.fromkeys(works, ""), rounds, turn)
    wall, cpu = ([np.array(row.values(clock)) for row in (bare, export)] for clock in ("wall", "cpu"))
    found = {"bare": count / wall[0], "export": count / wall[1]}
    found |= {"share": wall[0] / wall[1], "cpu_share": cpu[0] / cpu[1]}
    precision = str(embedder.precision).removeprefix("torch.")
    about = {"images": count, "batch_size": embedder.batch_size, "precision": precision}
    return {**about, **{name: spread(values.tolist()) for name, values in found.items()}}


def bare_model(embedder: Embedder, count: int) -> Callable[[int], None]:
    """Return a function that passes `count` images through the model, from normalised tensors on its device."""
    size, device = embedder.batch_size, embedder.device
    pixels = torch.rand(min(size, count), 3, *embedder.preprocess.size, device=device) - 0.5
    batches = [min(size, count - start) for start in range(0, count, size)]
    model = with_cast_weights(embedder.model, device, embedder.precision)

    @torch.inference_mode()
    def forward(number: int) -> None:
        for images in batches:
            with autocast(device, embedder.precision):
                found = model.embed(pixels[:images], neck=embedder.neck)
        found.cpu()  # wait for the GPU

    return forward


def export_to(output: Path, embedder: Embedder, source: Source, number: int) -> None:
    """Run an export into a numbered folder, as `vitreid export` does after loading the weights."""
    plan = make_plan(embedder, source, "benchmark", "float32")
    ExportJob(output / str(number), "gallery", "error", source, embedder, plan).run(ALONE)


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
