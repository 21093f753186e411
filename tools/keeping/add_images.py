"""`vitreid gallery add`: add images to a gallery by hand."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from vitreid.gallery.export.updates.hand_rows import CORRUPT, add_images
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools.cli.embedder_flags import add_device_flags, add_embedder_flags, embedder_options
from vitreid.tools.cli.gallery_arguments import gallery_folder
from vitreid.tools.cli.subcommands import Subcommand
from vitreid.tools.keeping.row_commands import assignments


def add_rows(args: argparse.Namespace) -> None:
    """Embed the images and add them; the log says what was added."""
    load = partial(Embedder, args.weights, args.device, args.precision, args.batch_size, embedder_options(args))
    values = assignments(args.set) if args.set else {}
    add_images(gallery_folder(args.gallery), args.inputs, load, values, args.corrupt)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_device_flags(parser)
    add_embedder_flags(parser)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "inputs": {"metavar": "INPUT", "nargs": "+", "help": "image files, or one folder, or one CSV file as for export"},
    "--weights": {"metavar": "FILE", "required": True, "help": "the weights that the gallery was made with"},
    "--batch-size": {"metavar": "N", "type": int, "default": 256, "help": "images per pass through the model"},
    "--corrupt": {"choices": CORRUPT, "default": "error", "help": "stop at an image that cannot be read, or skip it"},
}
COMMANDS = {
    "add": Subcommand(
        add_rows,
        "embed images and add them; the same image is never added twice",
        "galleries/crops who.jpg --set pid=visitor-002 --weights best.safetensors",
        ("gallery", "inputs", "--set", "--weights", "--batch-size", "--corrupt"),
        _add_flags,
    )
}
