"""Tracks of another library on given boxes: `python library_trackers.py BOXES.npz TRACKER FPS IDS.npz`.

Runs in an environment of that library (`pip install trackers`), without vitreid.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import numpy as np


def track(
    name: str, frames: np.ndarray, boxes: np.ndarray, scores: np.ndarray, fps: float, num_frames: int
) -> np.ndarray:
    """Return the track ids (N,) that the tracker `name` of `trackers` gives to boxes (N, 4); -1 = none."""
    import supervision
    import trackers

    tracker = getattr(trackers, name)(frame_rate=fps)
    ids = np.full(len(boxes), -1)
    for frame in range(num_frames):
        rows = np.flatnonzero(frames == frame)
        found = supervision.Detections(xyxy=boxes[rows], confidence=scores[rows], data={"row": rows})
        tracked = tracker.update(found)
        if len(tracked) and tracked.tracker_id is not None:
            ids[tracked.data["row"]] = tracked.tracker_id
    return ids


def main(argv: list[str]) -> int:
    """Read boxes, write ids; print the seconds and the library's version as one JSON line."""
    given = np.load(argv[0])
    started = time.perf_counter()
    ids = track(argv[1], given["frames"], given["boxes"], given["scores"], float(argv[2]), int(given["num_frames"]))
    seconds = time.perf_counter() - started
    np.savez(argv[3], ids=ids)
    print(json.dumps({"seconds": seconds, "version": version("trackers")}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
