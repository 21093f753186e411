"""Follow people through recordings: MOT text, an annotated video, sheets to see mistakes, and training data.

Works without weights, by motion alone; with --weights people are found again by their appearance.

Example:
    vitreid track --input lobby.mp4 --detector motion --output tracks
    vitreid track --input lobby.mp4 --detector people.onnx --weights logs/market/best.safetensors --manifest people.csv
    vitreid track --input MOT17/train --boxes gt/gt.txt --crops crops
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file
from vitreid.common.text import table
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tools.cli.embedder_flags import add_device_flags, add_embedder_flags, embedder_options
from vitreid.tools.cli.parser import command, new_parser
from vitreid.tools.video.recording_flags import add_recording_flags, camera_options, track_options
from vitreid.tracking.outputs.track_run import OutputOptions, write_tracks


def get_parser() -> argparse.ArgumentParser:
    """Return the tool's arguments."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--input",
        metavar="SOURCE",
        required=True,
        help="a video, a folder of videos or of frames, sequences of MOTChallenge, or a stream such as rtsp://…",
    )
    add("--output", metavar="DIR", help="folder for a MOT text, an annotated video and sheets of tracks per recording")
    add("--no-video", dest="video", action="store_false", help="write no annotated video")
    add("--no-sheet", dest="sheet", action="store_false", help="write no sheets of tracks")
    add("--crops", metavar="DIR", help="write the crops: DIR/RECORDING_TRACK/RECORDING_FRAME.jpg")
    add(
        "--manifest",
        metavar="FILE.csv",
        help="list the boxes for training: DATASETS.NAMES manifest; a track is a person",
    )
    add("--weights", metavar="FILE", help="of a run, or a finished model: people are found again by their appearance")
    add_device_flags(parser)
    add_recording_flags(parser)
    add_embedder_flags(parser)
    return parser


def track(args: argparse.Namespace) -> str:
    """Write the tracks; return a table of what was found."""
    options = track_options(args)
    if options is None:
        raise UserError("--detector, --boxes: name what finds the people: --detector NAME|FILE|motion, or --boxes FILE")
    outputs = OutputOptions(
        Path(args.output) if args.output else None,
        args.video,
        args.sheet,
        Path(args.crops) if args.crops else None,
        check_output_file("--manifest", args.manifest) if args.manifest else None,
        best=args.num_crops is not None,
    )
    embedder = None
    if args.weights:
        embedder = Embedder(args.weights, args.device, args.precision, options=embedder_options(args))
    found = write_tracks(args.input, options, outputs, camera_options(args), embedder)
    lines = [["recording", "frames", "boxes", "tracks", "longest"]]
    lines += [
        [one.name, str(one.num_frames), str(one.num_boxes), str(one.num_tracks), f"{one.seconds:.1f} s"]
        for one in found
    ]
    return table(lines)


main = command(get_parser, track)

if __name__ == "__main__":
    sys.exit(main())
