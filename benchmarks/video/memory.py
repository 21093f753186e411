"""Memory along a long film: `python benchmarks/video/memory.py --video FILE --minutes-of-film 60 [--detector WHAT] [--weights FILE]`.

A recording is played again and again, as one film of that length, and its people are followed as an export does it. The table shows
the resident memory of the process after each tenth of the film; the bar compares the last with the second, as the first still loads.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial

from vitreid.benchmarks.common.command import Report, check_numbers, command, new_parser, save, start_report
from vitreid.benchmarks.common.hardware import status_bytes
from vitreid.benchmarks.common.measurement import verdict
from vitreid.common.text import table
from vitreid.processor.embedding.embedder import Embedder
from vitreid.tracking.detections import VideoFrame
from vitreid.tracking.frames import open_frames
from vitreid.tracking.frames.frame_source import FrameSource
from vitreid.tracking.recording_tracks import TrackFinder, TrackOptions
from vitreid.tracking.recordings import Recording

PARTS, MOST_GROWTH_MB = 10, 50.0


class LoopedFrames(FrameSource):
    """A recording that is played again and again; frame numbers and times continue.

    Args:
        source: the recording.
        length: number of frames in all.
    """

    def __init__(self, source: FrameSource, length: int) -> None:
        self.source, self.name, self.fps, self.num_frames = source, source.name, source.fps, length

    def frames(self, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
        """Yield every n-th frame."""
        number = 0
        while number < self.count_frames():
            for frame in self.source.frames():
                if number >= self.count_frames():
                    return
                if number >= start and number % every == 0:
                    yield VideoFrame(number, number / self.fps, frame.pixels)
                number += 1

    def count_frames(self) -> int:
        """Return the number of frames."""
        return self.num_frames or 0


def get_parser() -> argparse.ArgumentParser:
    """Return the benchmark's arguments."""
    parser = new_parser(__doc__, "one minute of film")
    parser.add_argument("--video", required=True, metavar="FILE", help="a recording")
    parser.add_argument("--detector", default="motion", metavar="WHAT", help="as for `vitreid export`; default: motion")
    parser.add_argument("--weights", metavar="FILE", help="of the embedder; default: people are followed by motion")
    parser.add_argument("--fps", type=float, help="of a recording without timestamps")
    parser.add_argument("--stride", type=int, default=1, help="every n-th frame; default: 1")
    parser.add_argument("--minutes-of-film", type=int, default=60, metavar="M", help="default: %(default)s")
    return parser


def run(args: argparse.Namespace) -> Report:
    """Follow the people, print the table, and return what goes into the JSON file."""
    check_numbers(args, "stride", "minutes_of_film")
    source = open_frames(args.video, args.fps)
    length = round(60 * source.fps * (1 if args.quick else args.minutes_of_film))
    report = start_report(args, "cpu", f"video {source.name}", f"{length} frames", f"detector {args.detector}")
    embedder = Embedder(args.weights) if args.weights else None
    opened = TrackFinder(TrackOptions(detector=args.detector, stride=args.stride, fps=args.fps), embedder).open(
        Recording(args.video, "loop")
    )
    opened.frames = LoopedFrames(source, length)
    memory, num_tracks, started = list[float](), 0, time.perf_counter()
    for tracked, ended in opened.tracked():
        num_tracks += len(ended)
        while tracked.frame.number + args.stride >= (len(memory) + 1) * length / PARTS and len(memory) < PARTS:
            memory.append((status_bytes("VmRSS") or 0) / 1e6)
    rate = length / args.stride / (time.perf_counter() - started)
    rows = [[f"{100 * (part + 1) // PARTS} %", f"{value:.0f}"] for part, value in enumerate(memory)]
    print(table([["of the film", "MB"], *rows]))
    print(f"{num_tracks + len(opened.finish())} tracks, {rate:.1f} frames/s")
    growth = memory[-1] - memory[1]
    bar = verdict("MB that the memory grows from 20 % to 100 %", growth, most=MOST_GROWTH_MB)
    print(f"bar: {bar}")
    return save(args, {**report, "MB": memory, "tracks": num_tracks, "frames/s": rate, "bars": [bar]})


main = partial(command, get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
