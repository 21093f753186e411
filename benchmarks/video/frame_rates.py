"""Frames per second of a recording's parts: decoding alone, and a detector alone on frames in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from vitreid.tracking.detections import VideoFrame
from vitreid.tracking.detectors import Detector
from vitreid.tracking.frames import FrameSource


def decode_all(source: FrameSource, num_frames: int, every: int = 1) -> int:
    """Decode up to so many frames, every n-th; return how many frames of the recording were passed."""
    last = -1
    for frame in islice(source.frames(every), num_frames):
        last = frame.number
    return last + 1


def detect_one_by_one(detector: Detector, frames: Iterable[VideoFrame]) -> int:
    """Find the boxes of each frame alone, as a live source needs it; return the number of frames."""
    return sum(len(detector.detect([frame.pixels])) for frame in frames)


def detect_streamed(detector: Detector, frames: Iterable[VideoFrame]) -> int:
    """Find the boxes as an export does, in batches and with frames in work at once; return the number of frames."""
    return sum(1 for _ in detector.stream(frames))


def measure_rates(jobs: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return the frames/s of each job, which returns its number of frames, in each round.

    Jobs take turns, because a machine's speed drifts; one round before them does not count.
    """
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            frames = job()
            if number:
                found[name].append(frames / (time.perf_counter() - started))
    return found
