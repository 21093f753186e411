"""Adapt a trained model to your cameras with a folder of crops without names: training without labels, in one command.

It is `vitreid train` with the model, image size and optimizer of the weights, a tenth of their learning rate, and clusters of the crops
in place of people. With --source, labelled people are trained on in the same run. Options behind the arguments win, e.g.
DATASETS.CAMERA_PATTERN.

Example:
    vitreid adapt --weights logs/market/best.safetensors --input data/crops --output logs/adapted
    vitreid adapt --weights logs/market/best.safetensors --input data/crops --output logs/adapted UNSUPERVISED.CLUSTERING dbscan
    vitreid adapt --weights logs/market/best.safetensors --input data/crops --output logs/adapted --source market1501 --source-root data
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.common.errors import UserError
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
    add(
        "--source",
        metavar="NAME",
        action="append",
        default=[],
        help="labelled data set to train on in the same run, half of each batch, such as the one of the weights; may be given several times",
    )
    add("--source-root", metavar="FOLDER", help="folder that holds the folder of --source; default: data")
    add("--resume", action="store_true", help="continue a run that was interrupted")
    add("--overwrite", action="store_true", help="replace an earlier run in --output")
    add("options", nargs="*", metavar="KEY VALUE", help="options to change, e.g. SOLVER.MAX_EPOCHS 20")
    return parser


def adapt(args: argparse.Namespace) -> None:
    """Train without labels, from the weights."""
    about = Embedder(args.weights, device="cpu").about
    weights, crops, output = (Path(path).expanduser() for path in (args.weights, args.input, args.output))
    root = Path(args.source_root).expanduser() if args.source_root else None
    if root and not args.source:
        raise UserError(
            f"--source-root: {root} is the folder of --source, which is not given; name a data set, or leave it out"
        )
    cfg = build_adaptation(about, weights, crops, output, args.options, args.source, root)
    train(cfg, "auto" if args.resume else None, args.overwrite)


main = command(get_parser, adapt, steady=True)

if __name__ == "__main__":
    sys.exit(main())
