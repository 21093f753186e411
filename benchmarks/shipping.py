"""Parity and latency of exported models: `python benchmarks/shipping.py [--quick] [--json FILE]`.

Untrained models of the paper's sizes are exported, compared with their checkpoint on synthetic people, and timed in turn
with it. Trained weights change neither size nor speed; tools/export_model.py prints the parity of your own model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from vitreid.benchmarks.common.command import Report, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import spread_text
from vitreid.common.text import table
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import FORMATS, ExportRequest, export_model
from vitreid.deploy.parity_check import TIMED
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.runs.checkpoint import describe_model

CAMERAS = tuple("abcdef")
SIE, JPM = {"sie_camera": True}, {"jpm": True}
PARTS: dict[str, dict[str, Any]] = {"plain": {}, "SIE": SIE, "JPM": JPM, "SIE+JPM": SIE | JPM}
MODELS = {"vit_tiny": "vit_tiny_patch16_224", "vit_base": "vit_base_patch16_224"}
HEAD = ["model", "format", "MB", "largest diff", "places"]
HEAD += [f"{runtime} b{size} ms" for size in TIMED for runtime in ("torch", "exported")]
WIDTHS = (16, 18, 7, 13, 8, 22, 22, 26, 26)


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "vit_tiny, small crops, few rounds: under two minutes", "of weights and crops")
    add_models(parser)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["onnx"], help="default: onnx")
    parser.add_argument("--half", action="store_true", help="export in half precision too")
    for name, default, about in (
        ("crops", 64, "number of synthetic crops that are ranked"),
        ("rounds", 5, "number of timed batches"),
        ("threads", 0, "threads of both runtimes; default: torch's"),
    ):
        parser.add_argument(f"--{name}", metavar="N", type=int, default=default, help=about)
    return parser


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses backbones."""
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="backbones; default: both")


def run(args: argparse.Namespace) -> Report:
    """Export and measure all models, print the table, and return the content of the JSON file."""
    if args.quick:
        args.models, args.crops, args.rounds = ["vit_tiny"], 16, 2
    size = (128, 64) if args.quick else (256, 128)
    report = start_report(args, "cpu", f"crops {size}") | {"size": size, "rows": []}
    print(table([HEAD], left=2, widths=WIDTHS))
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        for model, parts in product(args.models, PARTS):
            weights = make_weights(Path(folder), model, parts, size, args.seed)
            for name, half in product(args.formats, (False, True) if args.half else (False,)):
                report["rows"].append(row := measure_one(weights, name, half, args) | {"model": f"{model} {parts}"})
                print(table([cells(row)], left=2, widths=WIDTHS), flush=True)
    return save(args, report)


def make_weights(folder: Path, model: str, parts: str, size: tuple[int, int], seed: int) -> Path:
    """Write an untrained checkpoint with different rows for its cameras, as after training, and return its path."""
    torch.manual_seed(seed)
    network = ReidModel(ModelSpec(MODELS[model], size, cameras=CAMERAS, **PARTS[parts]))
    if network.backbone.sie is not None:
        torch.nn.init.normal_(network.backbone.sie.table, std=0.05)
    text = f"({size[0]},{size[1]})"
    cfg = load_config(None, ["INPUT.SIZE_TRAIN", text, "INPUT.SIZE_TEST", text])
    path = folder / f"{model}-{parts}.safetensors"
    save_deploy(path, network, describe_model(cfg, ReidData("none", [], [], [], ()), {}, {}))
    return path


def measure_one(weights: Path, name: str, half: bool, args: argparse.Namespace) -> Report:
    """Export one model; with side information, it takes cameras as the second input."""
    request = ExportRequest(
        str(weights),
        str(weights.with_suffix(FORMATS[name].suffixes[0])),
        half=half,
        camera_input="SIE" in weights.name,
        num_crops=args.crops,
        rounds=args.rounds,
        threads=args.threads,
        seed=args.seed,
        overwrite=True,
    )
    exported = export_model(request)
    latency = {size: {key: one._asdict() for key, one in times.items()} for size, times in exported.latency.items()}
    about = {"format": name + (" half" if half else ""), "megabytes": exported.num_bytes / 1e6}
    about |= {"threads": exported.threads, "agreement": exported.agreement._asdict()}
    return {**about, "latency": latency}


def cells(row: Report) -> list[str]:
    """Return the cells of a table row."""
    agreement = row["agreement"]
    times = [
        spread_text({"median": 1000 * one["median"], "min": 1000 * one["least"], "max": 1000 * one["most"]}, ".1f")
        for latency in row["latency"].values()
        for one in latency.values()
    ]
    figures = [f"{row['megabytes']:.1f}", f"{agreement['largest']:.1e}", f"{agreement['places']:.2%}"]
    return [row["model"], row["format"], *figures, *times]


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
