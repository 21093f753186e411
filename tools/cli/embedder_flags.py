"""The arguments of commands with a model: its device and precision, and what a finished one (ONNX, OpenVINO, TorchScript) expects."""

from __future__ import annotations

import argparse
from typing import Any

from vitreid.datasets.loading.preprocess import INTERPOLATIONS
from vitreid.processor.embedding.foreign.description import KINDS
from vitreid.processor.embedding.foreign.runtimes import RUNTIMES

PREFIX = "embedder_"


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """Add --device and --precision."""
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")


def add_embedder_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; `embedder_options` reads them."""
    add = parser.add_argument_group(
        "finished models",
        "for --weights MODEL.onnx, .xml or TorchScript, where neither the file nor MODEL.onnx.json next to it says it",
    ).add_argument
    add("--embedder-input", choices=KINDS, help="order of channels and range of values: bgr255 = BGR from 0 to 255")
    add("--embedder-size", metavar="HEIGHTxWIDTH", help="of the images in pixels, e.g. 256x128")
    add("--embedder-resize", choices=INTERPOLATIONS, help="filter; default: bilinear, OpenCV's INTER_LINEAR")
    add("--embedder-runtime", choices=RUNTIMES, help="what runs the file; default: by its suffix")
    add("--embedder-json", metavar="FILE", help="the file's description; default: its name with .json behind it")


def embedder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the given values by name without the prefix, as `Embedder` takes them."""
    values = {name.removeprefix(PREFIX): value for name, value in vars(args).items() if name.startswith(PREFIX)}
    return {name: value for name, value in values.items() if value is not None}
