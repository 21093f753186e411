"""Parity and latency of exported models: `python benchmarks/shipping.py [--quick] [--json FILE]`.

Untrained models of the paper's sizes are exported, compared with their checkpoint on synthetic people, and timed in turn
with it. Trained weights change neither size nor speed; tools/export_model.py prints the parity of your own model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import torch

from vitreid.benchmarks.common.command import command
from vitreid.benchmarks.common.hardware import describe_hardware
from vitreid.common.files import write_text_atomically
from vitreid.common.text import table
from vitreid.configs import load_config
from vitreid.datasets import ReidData
from vitreid.deploy import FORMATS, ExportedModel, ExportRequest, export_model
from vitreid.deploy.parity_check import TIMED
from vitreid.model import ModelSpec, ReidModel, save_deploy
from vitreid.processor.runs.checkpoint import describe_model

CAMERAS = tuple("abcdef")
PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "SIE": {"sie_camera": True},
    "JPM": {"jpm": True},
    "SIE+JPM": {"sie_camera": True, "jpm": True},
}
MODELS = {"vit_tiny": "vit_tiny_patch16_224", "vit_base": "vit_base_patch16_224"}
HEAD = ["model", "format", "MB", "largest diff", "places"]
HEAD += [f"{runtime} b{size} ms" for size in TIMED for runtime in ("torch", "exported")]
WIDTHS = (16, 18, 7, 13, 8, 22, 22, 26, 26)
Row = dict[str, Any]


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = argparse.ArgumentParser(description="Parity and latency of exported models, compared with torch.")
    parser.add_argument("--quick", action="store_true", help="vit_tiny on small crops, few rounds: under two minutes")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="backbones; default: both")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["onnx"], help="default: onnx")
    parser.add_argument("--half", action="store_true", help="export in half precision too")
    parser.add_argument("--crops", metavar="N", type=int, default=64, help="number of synthetic crops that are ranked")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="number of timed batches")
    parser.add_argument(
        "--threads", metavar="N", type=int, default=0, help="threads of both runtimes; default: torch's"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the crops")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0, 2 for a mistake in the arguments, 130 for Ctrl-C."""
    return command(get_parser(), run, argv)


def run(args: argparse.Namespace) -> Row:
    """Export and measure all models, print the table, and return the content of the JSON file."""
    if args.quick:
        args.models, args.crops, args.rounds = ["vit_tiny"], 16, 2
    size = (128, 64) if args.quick else (256, 128)
    report: Row = {
        "seed": args.seed,
        "quick": args.quick,
        "size": size,
        "hardware": describe_hardware("cpu"),
        "rows": [],
    }
    print(f"seed {args.seed}", f"crops {size}", *(f"{k} {v}" for k, v in report["hardware"].items()), sep=" | ")
    print(table([HEAD], left=2, widths=WIDTHS))
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        for model, parts in product(args.models, PARTS):
            weights = make_weights(Path(folder), model, parts, size, args.seed)
            for name, half in product(args.formats, (False, True) if args.half else (False,)):
                report["rows"].append(row := measure_one(weights, name, half, args) | {"model": f"{model} {parts}"})
                print(table([cells(row)], left=2, widths=WIDTHS), flush=True)
    if args.json:
        write_text_atomically(args.json, json.dumps(report, indent=1))
    return report


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


def measure_one(weights: Path, name: str, half: bool, args: argparse.Namespace) -> Row:
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
    return {"format": name + (" half" if half else ""), **plain(export_model(request))}


def plain(exported: ExportedModel) -> Row:
    """Return the figures in plain types."""
    return {
        "megabytes": exported.num_bytes / 1e6,
        "threads": exported.threads,
        "agreement": exported.agreement._asdict(),
        "latency": {
            size: {name: value._asdict() for name, value in times.items()} for size, times in exported.latency.items()
        },
    }


def cells(row: Row) -> list[str]:
    """Return the cells of a table row."""
    agreement = row["agreement"]
    times = [
        f"{1000 * value['median']:.1f} ({1000 * value['least']:.1f}-{1000 * value['most']:.1f})"
        for latency in row["latency"].values()
        for value in latency.values()
    ]
    figures = [f"{row['megabytes']:.1f}", f"{agreement['largest']:.1e}", f"{agreement['places']:.2%}"]
    return [row["model"], row["format"], *figures, *times]


if __name__ == "__main__":
    sys.exit(main())
