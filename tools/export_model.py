"""Export a model for another runtime. The file is compared with the checkpoint and kept only if embeddings and rankings
agree within the printed tolerance.

Example:
    vitreid export-model --weights logs/market/best.safetensors --output model.onnx
"""

from __future__ import annotations

import argparse
import sys

from vitreid.deploy import FORMATS, INPUTS, TRACKERS, ExportedModel, ExportRequest, export_model
from vitreid.tools.cli.parser import command, new_parser, number_from


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--weights", metavar="FILE", required=True, help="best.safetensors or last.pth of a run")
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
    add(
        "--camera",
        metavar="NAME",
        default="",
        help="the camera of all images, e.g. market1501/c1 or c1; default: an unknown one",
    )
    add("--camera-input", action="store_true", help="take camera numbers as a second input")
    add("--opset", metavar="N", type=int, default=18, help="ONNX opset, 18 or more")
    add("--crops", metavar="DIR", default="", help="images for the comparison; default: synthetic people")
    add("--num-crops", metavar="N", type=int, default=64, help="largest number of images compared, 16 or more")
    add("--seed", type=int, default=0, help="of the synthetic people")
    add(
        "--min-agreement",
        metavar="SHARE",
        type=float,
        help="smallest share of ranks, and of first ranks, that agree; default: 1, with --half 0.95 and 1",
    )
    add("--threads", metavar="N", type=number_from(1), default=0, help="threads of both runtimes; default: torch's")
    add("--rounds", metavar="N", type=int, default=10, help="number of timed batches; 0 = none")
    add("--overwrite", action="store_true", help="replace an earlier file")
    return parser


def build_request(args: argparse.Namespace) -> ExportRequest:
    """Return the request that the arguments describe."""
    kind = args.input or ("pixels" if args.preprocess else TRACKERS.get(args.tracker, "normalised"))
    given = {key: value for key, value in vars(args).items() if key not in ("input", "preprocess", "traceback")}
    return ExportRequest(input=kind, **given)


def summary(exported: ExportedModel) -> str:
    """Return the file, the check and the latency as text."""
    notes, agreement = exported.notes, exported.agreement
    height, width = notes["input"]["size"]
    cameras = ", cameras (N,) int64" if "cameras" in notes["input"] else ""
    lines = [
        f"{exported.path}: {exported.num_bytes / 1e6:.1f} MB, {'float16' if notes['half'] else 'float32'} inside",
        f"  input    images (N, 3, {height}, {width}) {notes['input']['dtype']}{cameras}: {notes['input']['images']}",
        f"  output   embeddings (N, {notes['dimension']}) float32{', unit length' if notes['embed']['normalize'] else ''}",
        f"  checked  {exported.num_crops} crops in batches of 1, 2, 7 and 32: largest difference {agreement.largest:.1e}, "
        f"{agreement.difference:.1e} of the median distance; first {agreement.topk} ranks: {agreement.places:.2%} agree, "
        f"first rank {agreement.first:.2%}",
        f"  allowed  {exported.tolerance}",
    ]
    for size, times in exported.latency.items():
        each = ", ".join(f"{name} {latency}" for name, latency in times.items())
        lines.append(f"  batch {size:<3}{each}, median (min - max), from pixels, {exported.threads} threads")
    return "\n".join(lines)


main = command(get_parser, lambda args: summary(export_model(build_request(args))))

if __name__ == "__main__":
    sys.exit(main())
