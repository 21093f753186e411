"""Evaluate weights, or saved features, on one or several test sets: CMC, mAP, mINP and more.

Examples:
    vitreid test --weights logs/market/best.safetensors DATASETS.ROOT_DIR /data
    vitreid test --weights model.onnx --embedder-input bgr255 DATASETS.ROOT_DIR /data
"""

from __future__ import annotations

import argparse
import sys

from vitreid.evaluation.postprocess.fusion import WAYS
from vitreid.processor import ScoreOptions
from vitreid.processor.scoring.evaluation_run import test
from vitreid.tools.cli.embedder_flags import add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        help="best.safetensors or last.pth of a run, a finished model (.onnx, .xml, TorchScript), or a file of the original TransReID",
    )
    add("--output", metavar="FILE", help="JSON file for the numbers; default: metrics.json next to the weights")
    add("--save-features", metavar="FILE", help="keep the embeddings and their labels in a .safetensors file")
    add(
        "--features", metavar="FILE", action="append", help="evaluate such a file, without model and images; repeatable"
    )
    add("--cameras", action="store_true", help="mAP and Rank-1 from each camera to each camera")
    add("--confidence", action="store_true", help="95%% intervals, by drawing the people again")
    add("--verification", action="store_true", help="ROC figures of single comparisons, and of searches in vain")
    add(
        "--calibrate",
        metavar="FMR",
        type=float,
        help="find the distance with this rate of false matches, e.g. 0.001, and store it in the weights",
    )
    add(
        "--fuse",
        choices=WAYS,
        help="rank by several --features together: sum = add the models' evidence, mean = average their probabilities",
    )
    add_embedder_flags(parser)
    return parser


def evaluate(args: argparse.Namespace) -> None:
    """Do what the arguments say."""
    test(
        args.weights,
        args.config_file,
        args.opts,
        args.output,
        features=args.features or (),
        save_to=args.save_features,
        asked=ScoreOptions(args.cameras, args.confidence, args.verification, args.calibrate, args.fuse),
        options=embedder_options(args),
    )


main = command(get_parser, evaluate)

if __name__ == "__main__":
    sys.exit(main())
