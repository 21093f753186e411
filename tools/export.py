"""Embed images into a gallery. After an interruption run it again: it resumes, with the same result.

Example:
    vitreid export --weights logs/market/best.safetensors --input crops --output galleries/crops
"""

from __future__ import annotations

import argparse
import sys

from vitreid.gallery.export.export_job import CORRUPT, DTYPES, FOLDER, export
from vitreid.gallery.export.sources import LAYOUTS
from vitreid.tools.cli.parser import command, new_parser


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    parser.add_argument("--weights", metavar="FILE", required=True, help="best.safetensors or last.pth of a run")
    parser.add_argument(
        "--input",
        metavar="SOURCE",
        required=True,
        help="a folder of images; a CSV file with the column path (and pid, camera, view, time, tracklet, any others); a "
        "CSV file with the columns video, frame, x, y, width, height; or DATASET:SPLIT, e.g. market1501:gallery",
    )
    parser.add_argument("--output", metavar="GALLERY", required=True, help="folder to make, or with --format a file")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets, for DATASET:SPLIT")
    parser.add_argument(
        "--names", choices=LAYOUTS, help="files are called PID_cCAMERA…: take person and camera from the name"
    )
    parser.add_argument(
        "--format", default=FOLDER, help="npz, parquet, csv, faiss or mat: one file in place of a gallery"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the embeddings on disk")
    parser.add_argument("--batch-size", metavar="N", type=int, default=256, help="images per pass through the model")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument(
        "--corrupt", choices=CORRUPT, default="error", help="stop at an image that cannot be read, or list and skip it"
    )
    parser.add_argument("--no-resume", action="store_true", help="start anew; do not use the work of an earlier run")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier gallery of that name")
    return parser


def export_images(args: argparse.Namespace) -> None:
    """Run the export."""
    export(
        args.weights,
        args.input,
        args.output,
        root=args.root,
        names=args.names,
        format=args.format,
        dtype=args.dtype,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
        corrupt=args.corrupt,
        resume=not args.no_resume,
        overwrite=args.overwrite,
    )


main = command(get_parser, export_images)

if __name__ == "__main__":
    sys.exit(main())
