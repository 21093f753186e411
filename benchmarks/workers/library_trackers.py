"""Tracks of another library on given boxes: `python library_trackers.py BOXES.npz CLASS OPTIONS IDS.npz`, OPTIONS in JSON.

Runs in an environment of that library (`pip install trackers`), without vitreid.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np


def track(name: str, options: dict[str, Any], given: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the ids (N,) that a class of `trackers` gives to the boxes, -1 = none, and the seconds of its updates."""
    import supervision
    import trackers

    tracker = getattr(trackers, name)(**options)
    ids, seconds = np.full(len(given["boxes"]), -1), 0.0
    for frame in range(int(given["num_frames"])):
        rows = np.flatnonzero(given["frames"] == frame)
        found = supervision.Detections(xyxy=given["boxes"][rows], confidence=given["scores"][rows], data={"row": rows})
        started = time.perf_counter()
        tracked = tracker.update(found)
        seconds += time.perf_counter() - started
        if len(tracked) and tracked.tracker_id is not None:
            ids[tracked.data["row"]] = tracked.tracker_id
    return ids, seconds


def main(argv: list[str]) -> int:
    """Read boxes, write ids; print the seconds and the library's version as one JSON line."""
    with np.load(argv[0]) as given:
        ids, seconds = track(argv[1], json.loads(argv[2]), dict(given))
    np.savez(argv[3], ids=ids)
    print(json.dumps({"seconds": seconds, "version": version("trackers")}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
