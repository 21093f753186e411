"""Frames per second from a recording to a gallery: `python benchmarks/video/pipeline.py --video FILE --detector WHAT --weights FILE`.

What is measured takes turns, because a machine's speed drifts; each line does what the line above does, and more: decoding, detection,
tracks by motion, tracks with appearance, and the whole export with the embeddings of each track's best crops. Each opens the detector
itself. The table shows medians with minimum and maximum.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import spread, spread_text, verdict
from vitreid.benchmarks.video.frame_rates import decode_all, measure_rates
from vitreid.common.text import table
from vitreid.gallery.export.export_job import export
from vitreid.gallery.export.recording_job import RecordingOptions
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tracking.detectors import DetectorOptions, open_detector
from vitreid.tracking.frames import open_frames
from vitreid.tracking.recording_tracks import TrackOptions, find_tracks

DETECTED, EXPORTED = "and detect", "and embed the best crops: the whole export"
SHARE, LEAST = 0.8, 15.0  # the bars: of the detector's own speed; frames/s


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one round")
    parser.add_argument("--video", required=True, metavar="FILE", help="a recording")
    parser.add_argument("--detector", required=True, metavar="WHAT", help="as for `vitreid export`")
    parser.add_argument("--weights", required=True, metavar="FILE", help="of the embedder")
    parser.add_argument("--fps", type=float, help="of a recording without timestamps")
    parser.add_argument("--stride", type=int, default=1, help="every n-th frame; default: 1")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print the table, and return what goes into the JSON file."""
    check_numbers(args, "stride", "rounds")
    source = open_frames(args.video, args.fps)
    number = len(range(0, source.count_frames(), args.stride))
    report = start_report(args, "cpu", f"video {source.name}", f"{number} frames", f"detector {args.detector}")
    with tempfile.TemporaryDirectory(prefix="vitreid-benchmark-") as folder:
        measured = measure_rates(jobs_of(args, number, Path(folder)), 1 if args.quick else args.rounds)
    rates = {job: spread(values) for job, values in measured.items()}
    print(table([["part", "frames/s"], *([job, spread_text(found, ".1f")] for job, found in rates.items())]))
    share = rates[EXPORTED]["median"] / rates[DETECTED]["median"]
    bars = [
        verdict("frames/s of the whole export", rates[EXPORTED]["median"], least=LEAST),
        verdict("the same / that of decoding and detecting alone", share, least=SHARE),
    ]
    print(*(f"bar: {line}" for line in bars), sep="\n")
    return save(args, {**report, "frames/s": rates, "bars": bars})


def jobs_of(args: argparse.Namespace, number: int, folder: Path) -> dict[str, Callable[[], int]]:
    """Return what is measured, each a function that returns the number of frames."""
    options = {"stride": args.stride, "fps": args.fps}
    lowest = TrackOptions(detector=args.detector).lowest_score
    embedder = Embedder(args.weights)

    def decode() -> int:
        decode_all(open_frames(args.video, args.fps), number, args.stride)
        return number

    def detect() -> int:
        detector = open_detector(args.detector, DetectorOptions(confidence=lowest))
        frames = open_frames(args.video, args.fps).frames(args.stride)
        return sum(1 for _ in detector.stream(islice(frames, number)))

    def track(looks: Embedder | None) -> int:
        for _ in find_tracks(args.video, args.detector, embedder=looks, **options):
            pass
        return number

    def export_all() -> int:
        recordings = RecordingOptions(TrackOptions(detector=args.detector, **options))
        export(args.weights, args.video, folder / "gallery", recordings=recordings, resume=False, overwrite=True)
        return number

    return {
        "decode": decode,
        DETECTED: detect,
        "and track by motion": partial(track, None),
        "and by appearance": partial(track, embedder),
        EXPORTED: export_all,
    }


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
