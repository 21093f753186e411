"""Export a model for another runtime. The file is compared with the checkpoint and kept only if embeddings and rankings
agree within the printed tolerance.

Examples:
    vitreid export-model --weights logs/market/best.safetensors --output model.onnx
    vitreid export-model --weights logs/market/best.safetensors --output small.onnx --int8 --crops my/crops --labelled market1501 --root /data
"""

from __future__ import annotations

import argparse
import sys

from vitreid.datasets import DATASETS
from vitreid.deploy import FORMATS, INPUTS, TRACKERS, ExportedModel, ExportRequest, export_model
from vitreid.deploy.quantised.int8_recipe import LEVELS
from vitreid.labels.name_options import LAYOUTS
from vitreid.tools.cli.embedder_flags import PREFIX, add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        required=True,
        help="best.safetensors or last.pth of a run; with --int8 also model.onnx, model.xml",
    )
    add(
        "--output", metavar="FILE", required=True, help="model.onnx, model.torchscript, model.pt2, model.xml (and .bin)"
    )
    add("--format", default="", help=f"{', '.join(FORMATS)}; default: by the name of --output")
    taken = parser.add_mutually_exclusive_group()
    taken.add_argument(
        "--input",
        choices=INPUTS,
        help="; ".join(f"{name}: {text}" for name, text in INPUTS.items()) + "; default: normalised",
    )
    taken.add_argument("--preprocess", action="store_true", help="the same as --input pixels")
    add("--for", dest="tracker", default="", choices=TRACKERS, help="export in the form that this tracker takes")
    add("--half", action="store_true", help="compute in float16; input and output keep their types")
    add("--int8", action="store_true", help="weights and activations in 8 bits, with ranges measured on --crops")
    add(
        "--camera",
        metavar="NAME",
        default="",
        help="the camera of all images, e.g. market1501/c1 or c1; default: an unknown one",
    )
    add("--camera-input", action="store_true", help="take camera numbers as a second input")
    add("--batch", metavar="N", type=int, default=0, help="images of every call: fixes all shapes; default: any number")
    add("--opset", metavar="N", type=int, default=18, help="ONNX opset, 18 or more")
    add(
        "--crops",
        metavar="SOURCE",
        default="",
        help="images for the comparison and for --int8: a folder, or a CSV file with the column path; default: synthetic people",
    )
    add("--num-crops", metavar="N", type=int, default=64, help="largest number of images compared, 16 or more")
    add(
        "--num-calibration", metavar="N", type=int, default=128, help="number of further images that --int8 measures on"
    )
    add("--seed", type=int, default=0, help="of the synthetic people, and of --people")
    add_labelled_flags(parser)
    add(
        "--min-agreement",
        metavar="SHARE",
        type=float,
        help="smallest share of ranks, and of first ranks, that agree; default: 1, --half 0.95 and 1, --int8 0.9 and 0.95",
    )
    add("--rounds", metavar="N", type=int, default=10, help="number of timed batches; 0 = none")
    add("--overwrite", action="store_true", help="replace an earlier file")
    add_embedder_flags(parser)
    return parser


def add_labelled_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of crops with labels."""
    add = parser.add_argument_group("accuracy", "mAP of the model and of the file on crops with labels").add_argument
    add(
        "--labelled",
        metavar="SOURCE",
        default="",
        help="a manifest (CSV), a folder with a sub-folder per person, or a data set: " + ", ".join(sorted(DATASETS)),
    )
    add("--root", metavar="DIR", default="", help="folder of the data sets")
    add("--names", choices=LAYOUTS, default="", help="how the files of a --labelled folder are named")
    add(
        "--people", metavar="N", type=int, default=0, help="evaluate N of its people, without distractors; default: all"
    )
    add("--max-loss", metavar="POINTS", type=float, help="points of mAP that the file may lose; default: 1")


def build_request(args: argparse.Namespace) -> ExportRequest:
    """Return the request that the arguments describe."""
    kind = args.input or ("pixels" if args.preprocess else TRACKERS.get(args.tracker, "normalised"))
    left_out = ("input", "preprocess", "traceback")
    given = {key: value for key, value in vars(args).items() if key not in left_out and not key.startswith(PREFIX)}
    return ExportRequest(input=kind, options=embedder_options(args), **{**given, "threads": args.threads or 0})


def summary(exported: ExportedModel) -> str:
    """Return the file, the check and the latency as text."""
    notes, agreement = exported.notes, exported.agreement
    height, width = notes["input"]["size"]
    cameras = ", cameras (N,) int64" if "cameras" in notes["input"] else ""
    inside = f"int8 ({LEVELS[exported.level]})" if exported.level else "float16" if notes["half"] else "float32"
    before = f" ({exported.float_bytes / 1e6:.1f} MB in float32)" if exported.float_bytes else ""
    lines = [
        f"{exported.path}: {exported.num_bytes / 1e6:.1f} MB{before}, {inside} inside",
        f"  input    images ({exported.batch or 'N'}, 3, {height}, {width}) {notes['input']['dtype']}{cameras}: {notes['input']['images']}",
        f"  output   embeddings (N, {notes['dimension']}) float32{', unit length' if notes['embed']['normalize'] else ''}",
        f"  checked  {exported.num_crops} crops in batches of 1, 2, 7 and 32: largest difference {agreement.largest:.1e}, "
        f"{agreement.difference:.1e} of the median distance; first {agreement.topk} ranks: {agreement.places:.2%} agree, "
        f"first rank {agreement.first:.2%}",
        f"  allowed  {exported.tolerance}",
    ]
    if exported.cost:
        lines.append(f"  accuracy {exported.cost.about}")
    for size, times in exported.latency.items():
        each = ", ".join(f"{name} {latency}" for name, latency in times.items())
        lines.append(f"  batch {size:<3}{each}, median (min - max), from pixels, {exported.threads} threads")
    return "\n".join(lines)


main = command(get_parser, lambda args: summary(export_model(build_request(args))))

if __name__ == "__main__":
    sys.exit(main())
