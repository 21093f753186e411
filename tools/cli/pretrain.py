"""Pre-train a vision transformer on crops without labels (DINO, iBOT); MODEL.PRETRAIN_PATH of a training loads the result.

OUTPUT_DIR/pretrained.safetensors is the averaged teacher's backbone. OUTPUT_DIR/pretraining.csv has a row per epoch. With --choose
nothing is trained: the images of a large set that suit a target set are written as a manifest.

Example:
    vitreid pretrain --config_file market/ssl_vit_small DATASETS.NAMES crops DATASETS.ROOT_DIR data/crops OUTPUT_DIR logs/pretrained
    vitreid pretrain --config_file market/ssl_vit_small DATASETS.NAMES crops DATASETS.ROOT_DIR data/crops --choose chosen.csv --keep 0.5 --before large.safetensors --after target.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.configs import load_config
from vitreid.processor.pretraining.build_pretraining import pretrain
from vitreid.processor.pretraining.forgetting_score import build_chosen_images
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add("--resume", action="store_true", help="continue from OUTPUT_DIR/last.pth if it exists")
    add("--overwrite", action="store_true", help="replace an earlier run in OUTPUT_DIR, or the CSV of --choose")
    add(
        "--choose",
        metavar="CSV",
        help="write a manifest of the images whose features change least from --before to --after",
    )
    add("--keep", metavar="SHARE", type=float, default=0.5, help="--choose: share of the images; default: %(default)s")
    add("--before", metavar="FILE", help="--choose: weights pre-trained on the large set")
    add("--after", metavar="FILE", help="--choose: the same, pre-trained further on the target set")
    return parser


def act(args: argparse.Namespace) -> None:
    """Pre-train, or choose images."""
    cfg = load_config(args.config_file, args.opts)
    if args.choose is None:
        if args.before or args.after:
            raise UserError("--before, --after: they go with --choose, which names the manifest to write")
        pretrain(cfg, "auto" if args.resume else None, args.overwrite)
    elif not args.before or not args.after:
        raise UserError("--choose: needs the weights --before and --after the training on the target set")
    else:
        build_chosen_images(cfg, args.before, args.after, args.keep, Path(args.choose), args.overwrite)


main = command(get_parser, act, steady=True)

if __name__ == "__main__":
    sys.exit(main())
