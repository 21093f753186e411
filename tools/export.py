"""Embed images, or the people in recordings, into a gallery. After an interruption run it again: it resumes, with the same result.

A gallery that is there gets what is new; rows that were removed from it stay out.

Example:
    vitreid export --weights logs/market/best.safetensors --input crops --output galleries/crops
    vitreid export --weights logs/market/best.safetensors --input lobby.mp4 --detector motion --output galleries/lobby
"""

from __future__ import annotations

import argparse
import sys

from vitreid.gallery.export.export_job import CORRUPT, DTYPES, FOLDER, export
from vitreid.gallery.export.recording_job import RecordingOptions
from vitreid.gallery.export.track_rows import RowOptions
from vitreid.gallery.keeping.retention import age_of
from vitreid.labels.name_options import LAYOUTS, NameOptions
from vitreid.tools.cli.embedder_flags import PREFIX, add_device_flags, add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser
from vitreid.tools.video.recording_flags import CAMERAS, TRACKS, add_recording_flags, camera_options, track_options

NAMES = ("names", "camera_pattern", "time_pattern")  # options of NameOptions, in their order


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        required=True,
        help="best.safetensors or last.pth of a run, or a finished model: .onnx, .xml, TorchScript",
    )
    add(
        "--input",
        metavar="SOURCE",
        required=True,
        help="a folder of images; a CSV file with the column path (and pid, camera, view, time, tracklet, a box, any others); a "
        "CSV file with the columns video, frame, x, y, width, height; DATASET:SPLIT, e.g. market1501:gallery; or, with "
        "--detector or --boxes, a video, a folder of videos or of frames, or a stream such as rtsp://…",
    )
    add("--output", metavar="GALLERY", required=True, help="folder to make, or with --format a file")
    add("--root", metavar="DIR", help="folder of the data sets, for DATASET:SPLIT")
    add("--names", choices=LAYOUTS, help="files are called PID_cCAMERA…: take person and camera from the name")
    add(
        "--camera-pattern",
        metavar="REGEX",
        help="its first group is the camera in an image's path, e.g. '/(cam[0-9]+)_'",
    )
    add(
        "--time-pattern",
        metavar="REGEX",
        help="the same for the time, e.g. '_([0-9]{8}_[0-9]{6})'; seconds, or a date in UTC",
    )
    add("--format", default=FOLDER, help="npz, parquet, csv, faiss or mat: one file in place of a gallery")
    add(
        "--dtype",
        choices=DTYPES,
        help="of the embeddings on disk; default: float32, or that of the gallery that is there",
    )
    add("--batch-size", metavar="N", type=int, default=256, help="images per pass through the model")
    add_device_flags(parser)
    _add_output_flags(parser)
    add_embedder_flags(parser)
    add_recording_flags(parser)
    _add_track_flags(parser)
    return parser


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of work and galleries that are there, and of images that cannot be read."""
    add = parser.add_argument
    add("--corrupt", choices=CORRUPT, default="error", help="stop at an image that cannot be read, or list and skip it")
    add("--no-resume", action="store_true", help="start anew; do not use the work of an earlier run")
    add(
        "--overwrite",
        action="store_true",
        help="replace an earlier gallery of that name, rather than adding to it; says what would be dropped",
    )
    add("--expire-after", metavar="AGE", help="then remove rows whose time is longer ago, e.g. 30d (d, h, w), for good")
    add("--yes", dest="confirmed", action="store_true", help="with --overwrite: drop it")


def _add_track_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("rows of a track").add_argument
    add(
        "--templates",
        metavar="K",
        type=int,
        default=0,
        help="up to K rows of each track, as diverse as possible; default: one, the mean",
    )
    add(
        "--no-crops",
        dest="thumbnails",
        action="store_false",
        help="keep no crops; the recording is read again to show them",
    )
    add("--blur-crops", dest="blur", action="store_true", help="keep the crops blurred: nobody is recognised in them")


def export_images(args: argparse.Namespace) -> None:
    """Run the export."""
    others = {"input", "no_resume", "traceback", "threads", "templates", "thumbnails", "blur", "expire_after"}
    others |= {*NAMES, *TRACKS, *CAMERAS}
    given = {name: value for name, value in vars(args).items() if name not in others and not name.startswith(PREFIX)}
    tracks = track_options(args)
    age = age_of(args.expire_after) if args.expire_after else None
    export(
        source=args.input,
        resume=not args.no_resume,
        names=NameOptions(*(getattr(args, name) for name in NAMES)),
        frames_from=args.frames_from or 0,
        recordings=RecordingOptions(
            tracks, camera_options(args), RowOptions(args.templates, args.thumbnails, blur=args.blur)
        )
        if tracks
        else None,
        options=embedder_options(args),
        expire_after=age,
        **given,
    )


main = command(get_parser, export_images)

if __name__ == "__main__":
    sys.exit(main())
