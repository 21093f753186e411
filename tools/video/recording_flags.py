"""Options of the commands that read recordings: what finds the people, how they are followed, cameras and times."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from vitreid.common.inputs.regular_files import read_json
from vitreid.tracking.box_files import BOX_FORMATS
from vitreid.tracking.camera_options import CameraOptions
from vitreid.tracking.recording_tracks import LEAST_BOXES, TrackOptions
from vitreid.tracking.tracklets.tracklet import NUM_CROPS

FINDING = ("detector", "boxes")
TRACKS = (
    *FINDING,
    *("box_format", "class_names", "frames_from", "classes", "confidence", "stride", "fps", "track", "num_crops"),
    *("least_boxes", "keep_still", "lost_seconds", "detector_json"),
)
CAMERAS = ("camera", "start", "time_zone", "recordings", "name_pattern")


def add_recording_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, in groups."""
    _add_people(parser.add_argument_group("people in recordings").add_argument)
    _add_tracks(parser.add_argument_group("tracks").add_argument)
    _add_cameras(parser.add_argument_group("cameras and times").add_argument)


def _add_people(add: Callable[..., object]) -> None:
    add("--detector", metavar="WHAT", help="what finds the people: a name, a model file (.onnx, .xml), or motion")
    add(
        "--boxes",
        metavar="FILE",
        help="boxes of another program in place of a detector; for a folder of sequences the name in each of them, e.g. gt/gt.txt",
    )
    add("--box-format", choices=sorted(BOX_FORMATS), help="of --boxes; default: found from the file")
    add(
        "--class-names",
        metavar="NAMES",
        type=_class_names,
        help="of the class numbers in --boxes: coco80, coco91, or a,b,…",
    )
    add(
        "--frames-from",
        "--first-frame",
        metavar="N",
        type=int,
        help="number that --boxes, or a CSV file of boxes, gives to a video's first frame; default: as its format defines, else 0",
    )
    add(
        "--classes",
        metavar="NAMES",
        type=_names,
        default=("person",),
        help="to follow, e.g. person,car; default: person",
    )
    add("--confidence", metavar="C", type=float, default=0.5, help="score at which a box starts a track; default: 0.5")
    add(
        "--detector-json",
        metavar="FILE",
        help="how a detector file is fed and read; default: its name with .json behind it",
    )


def _add_tracks(add: Callable[..., object]) -> None:
    add("--stride", metavar="N", type=int, default=1, help="read every n-th frame")
    add("--fps", metavar="F", type=float, help="frames per second; default: as the recording states")
    add("--no-track", dest="track", action="store_false", help="do not follow people: each box is a row")
    add("--best", dest="num_crops", metavar="N", type=int, help=f"most crops used of each track; default: {NUM_CROPS}")
    add(
        "--least-boxes",
        metavar="N",
        type=int,
        default=LEAST_BOXES,
        help="drop tracks with fewer boxes; default: %(default)s",
    )
    add(
        "--keep-still",
        action="store_true",
        help="keep tracks in whose box nothing changes for 15 s or more; by default they count as pictures and objects",
    )
    add(
        "--lost-seconds",
        metavar="S",
        type=float,
        default=TrackOptions.lost_seconds,
        help="how long somebody lost can be found again by appearance; default: %(default)g",
    )


def _add_cameras(add: Callable[..., object]) -> None:
    add("--camera", metavar="NAME", help="default: the recording's name")
    add("--start", metavar="TIME", help="of the first frame, e.g. 2026-01-31T08:00+01:00")
    add(
        "--time-zone",
        metavar="ZONE",
        help="of times without an offset, e.g. Europe/Berlin; default: UTC; live: this machine's",
    )
    add("--recordings", metavar="TABLE.csv", help="camera and start of each recording: columns video, camera, start")
    add("--name-pattern", metavar="PATTERN", help="of file names, e.g. '{camera}_%%Y-%%m-%%d_%%H-%%M-%%S'")


def track_options(args: argparse.Namespace) -> TrackOptions | None:
    """Return what the options say about tracks; None if neither --detector nor --boxes is given."""
    if args.detector is None and args.boxes is None:
        return None
    given = {name: getattr(args, name) for name in TRACKS if name != "detector_json"}
    given["num_crops"] = args.num_crops or NUM_CROPS
    if args.detector_json:
        given["description"] = read_json(args.detector_json)
    return TrackOptions(**given, device=args.device, precision=args.precision)


def camera_options(args: argparse.Namespace) -> CameraOptions:
    """Return what the options say about cameras and times."""
    return CameraOptions(args.camera, args.start, args.time_zone, args.recordings, args.name_pattern)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _class_names(text: str) -> tuple[str, ...] | str:
    return _names(text) if "," in text else text
