"""Ship a model: `python tools/export_model.py --weights RUN/best.safetensors --output model.onnx`."""

from __future__ import annotations

import argparse
import sys

from vitreid.deploy import FORMATS, INPUTS, TRACKERS, Order, Shipped, ship
from vitreid.tools.cli.parser import new_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(
        "Write a model for another runtime. The file is compared with the checkpoint, embeddings and rankings, "
        "and kept only if they agree to a tolerance, which is printed.",
        "vitreid export-model --weights logs/market/best.safetensors --output model.onnx",
    )
    parser.add_argument("--weights", metavar="FILE", required=True, help="best.safetensors or last.pth of a run")
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="model.onnx, model.torchscript, model.pt2, model.xml (and .bin)"
    )
    parser.add_argument("--format", default="", help=f"{', '.join(FORMATS)}; default: by the name of --output")
    taken = parser.add_mutually_exclusive_group()
    taken.add_argument(
        "--input",
        choices=INPUTS,
        help="; ".join(f"{name}: {text}" for name, text in INPUTS.items()) + "; default: normalised",
    )
    taken.add_argument("--preprocess", action="store_true", help="the same as --input pixels")
    parser.add_argument(
        "--for", dest="tracker", default="", choices=TRACKERS, help="as this tracker's re-ID model takes it"
    )
    parser.add_argument("--half", action="store_true", help="float16 inside; input and output stay as they are")
    parser.add_argument(
        "--camera",
        metavar="NAME",
        default="",
        help="the camera of all images, e.g. market1501/c1 or c1; default: an unknown one",
    )
    parser.add_argument("--camera-input", action="store_true", help="cameras by number as a second input")
    parser.add_argument("--opset", metavar="N", type=int, default=18, help="of ONNX, 18 or more")
    parser.add_argument("--crops", metavar="DIR", default="", help="images to compare on; default: drawn people")
    parser.add_argument("--num-crops", metavar="N", type=int, default=64, help="images compared, at most; 16 or more")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn people")
    parser.add_argument(
        "--min-agreement",
        metavar="SHARE",
        type=float,
        help="smallest share of places in the ranked lists, and of the first places, that agree; default: 1, with --half 0.95 and "
        "1",
    )
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="of both runtimes; default: torch's")
    parser.add_argument("--rounds", metavar="N", type=int, default=10, help="batches timed; 0 = none")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, ship, print, return the exit status."""
    args = get_parser().parse_args(argv)
    return run(lambda: print(summary(ship(order_of(args)))), args.traceback)


def order_of(args: argparse.Namespace) -> Order:
    """Return what the arguments ask for."""
    kind = args.input or ("pixels" if args.preprocess else TRACKERS.get(args.tracker, "normalised"))
    given = {key: value for key, value in vars(args).items() if key not in ("input", "preprocess", "traceback")}
    return Order(input=kind, **given)


def summary(shipped: Shipped) -> str:
    """Return what was made and found out, as text."""
    notes, agreement = shipped.notes, shipped.agreement
    height, width = notes["input"]["size"]
    cameras = ", cameras (N,) int64" if "cameras" in notes["input"] else ""
    lines = [
        f"{shipped.path}: {shipped.num_bytes / 1e6:.1f} MB, {'float16' if notes['half'] else 'float32'} inside",
        f"  input    images (N, 3, {height}, {width}) {notes['input']['dtype']}{cameras}: {notes['input']['images']}",
        f"  output   embeddings (N, {notes['dimension']}) float32{', unit length' if notes['embed']['normalize'] else ''}",
        f"  checked  {shipped.num_crops} crops in batches of 1, 2, 7 and 32: largest difference {agreement.largest:.1e}, "
        f"{agreement.difference:.1e} of the median distance; first {agreement.topk} places of the ranked lists: "
        f"{agreement.places:.2%} agree, first places {agreement.first:.2%}",
        f"  allowed  {shipped.tolerance}",
    ]
    for size, times in shipped.latency.items():
        each = ", ".join(f"{name} {latency}" for name, latency in times.items())
        lines.append(f"  batch {size:<3}{each}, median (min - max), from pixels, {shipped.threads} threads")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
