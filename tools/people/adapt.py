"""Adapt a trained model to your cameras with a folder of crops without names: training without labels, in one command.

It is `vitreid train` with the model, image size and optimizer of the weights, a tenth of their learning rate, and clusters of the crops
in place of people. Options behind the arguments win, e.g. DATASETS.CAMERA_PATTERN.

Example:
    vitreid adapt --weights logs/market/best.safetensors --input data/crops --output logs/adapted
    vitreid adapt --weights logs/market/best.safetensors --input data/crops --output logs/adapted UNSUPERVISED.CLUSTERING dbscan
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.processor import Embedder, train
from vitreid.processor.pseudo_labels.adaptation import build_adaptation
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--weights", metavar="FILE", required=True, help="best.safetensors of a training by vitreid")
    add("--input", metavar="FOLDER", required=True, help="crops of people, searched with its sub-folders")
    add("--output", metavar="FOLDER", required=True, help="the run folder; best.safetensors in it is the adapted model")
    add("--resume", action="store_true", help="continue a run that was interrupted")
    add("--overwrite", action="store_true", help="replace an earlier run in --output")
    add("options", nargs="*", metavar="KEY VALUE", help="options to change, e.g. SOLVER.MAX_EPOCHS 20")
    return parser


def adapt(args: argparse.Namespace) -> None:
    """Train without labels, from the weights."""
    about = Embedder(args.weights, device="cpu").about
    weights, crops, output = (Path(path).expanduser() for path in (args.weights, args.input, args.output))
    cfg = build_adaptation(about, weights, crops, output, args.options)
    train(cfg, "auto" if args.resume else None, args.overwrite)


main = command(get_parser, adapt, steady=True)

if __name__ == "__main__":
    sys.exit(main())
