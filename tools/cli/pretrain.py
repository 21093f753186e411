"""Pre-train a vision transformer on crops without labels (DINO, iBOT); MODEL.PRETRAIN_PATH of a training loads the result.

OUTPUT_DIR/pretrained.safetensors is the averaged teacher's backbone. OUTPUT_DIR/pretraining.csv has a row per epoch.

Example:
    vitreid pretrain --config_file market/ssl_vit_small DATASETS.NAMES crops DATASETS.ROOT_DIR data/crops OUTPUT_DIR logs/pretrained
"""

from __future__ import annotations

import argparse
import sys

from vitreid.configs import load_config
from vitreid.processor.pretraining.build_pretraining import pretrain
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__, config=True)
    add = parser.add_argument
    add("--resume", action="store_true", help="continue from OUTPUT_DIR/last.pth if it exists")
    add("--overwrite", action="store_true", help="replace an earlier run in OUTPUT_DIR")
    return parser


def act(args: argparse.Namespace) -> None:
    """Pre-train."""
    pretrain(load_config(args.config_file, args.opts), "auto" if args.resume else None, args.overwrite)


main = command(get_parser, act, steady=True)

if __name__ == "__main__":
    sys.exit(main())
