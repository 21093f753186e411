"""Frames per second of decoding and of detectors: `python benchmarks/video/detection.py --video FILE [--detector WHAT …] [--json FILE]`.

Detectors work on frames in memory, so that decoding does not count: each frame alone, and streamed as an export does. What is
measured takes turns, because a machine's speed drifts. The table shows medians with minimum and maximum.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import islice
from pathlib import Path

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.measurement import spread, spread_text
from vitreid.benchmarks.video.frame_rates import decode_all, detect_one_by_one, detect_streamed, measure_rates
from vitreid.common.text import table
from vitreid.tracking.detectors import DetectorOptions, open_detector
from vitreid.tracking.frames import open_frames


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "20 frames, one round")
    parser.add_argument("--video", required=True, metavar="FILE", help="a recording, or a folder of frames")
    parser.add_argument("--detector", action="append", default=[], metavar="WHAT", help="repeatable; default: motion")
    parser.add_argument("--fps", type=float, help="of a recording without timestamps")
    parser.add_argument("--frames", type=int, default=200, help="of the recording that are used; default: 200")
    parser.add_argument(
        "--threads", default="1,2", help="CPU threads of a detector, one or several counts; default: 1,2"
    )
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp16", "fp32"])
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def run(args: argparse.Namespace) -> Report:
    """Measure, print the table, and return what goes into the JSON file."""
    check_numbers(args, "frames", "rounds")
    number, rounds = (20, 1) if args.quick else (args.frames, args.rounds)
    source = open_frames(args.video, args.fps)
    report = start_report(args, "cpu", f"video {source.name}", f"{number} frames")
    frames = list(islice(source.frames(), number))
    jobs = {
        "decode every frame": lambda: decode_all(source, number),
        "decode every 5th frame": lambda: decode_all(source, max(1, number // 5), every=5),
    }
    for name in args.detector or ["motion"]:
        for threads in map(int, args.threads.split(",")):
            detector = open_detector(name, DetectorOptions(threads=threads, precision=args.precision))
            jobs[f"{Path(name).name}, threads: {threads}, one by one"] = partial(detect_one_by_one, detector, frames)
            jobs[f"{Path(name).name}, threads: {threads}, streamed"] = partial(detect_streamed, detector, frames)
    rates = {job: spread(values) for job, values in measure_rates(jobs, rounds).items()}
    print(table([["part", "frames/s"], *([job, spread_text(found, ".1f")] for job, found in rates.items())]))
    return save(args, {**report, "frames/s": rates})


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
