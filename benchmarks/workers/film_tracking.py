"""Trackers on the boxes of a built-in film: ours, and those of another library in its own environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vitreid.benchmarks.common.isolated_process import last_line
from vitreid.benchmarks.video.noisy_boxes import NoiseRates, noisy_boxes
from vitreid.benchmarks.video.tracking_scores import Sequence
from vitreid.common.pictures import cut_box
from vitreid.datasets.synthetic.film import FilmPlan, film_walks, make_film
from vitreid.datasets.synthetic.film_truth import FilmBox, read_truth
from vitreid.tracking.detections import Detections
from vitreid.tracking.frames import open_frames
from vitreid.tracking.tracker import Tracker, TrackerOptions

Embed = Callable[[list[np.ndarray]], np.ndarray]  # crops (h, w, 3) uint8 RGB -> (n, D) unit embeddings
LEAST_BOXES = 3  # shorter tracks are dropped, for all trackers
WORKER = Path(__file__).with_name("library_trackers.py")


@dataclass(frozen=True)
class CameraCase:
    """The boxes of one camera of a film.

    Args:
        name: film and camera. video: its file.
        truth: who is where; found: what the detector would have found, per frame.
        visits: per person, the frames from which on another visit counts.
    """

    name: str
    video: Path
    fps: int
    truth: list[FilmBox]
    found: list[Detections]
    visits: dict[int, list[int]]


def film_cases(folder: Path, plan: FilmPlan, rates: NoiseRates) -> list[CameraCase]:
    """Return the cameras of a film, which is drawn if it is missing."""
    make_film(folder, plan)
    walks, cases = film_walks(plan), []
    for number, camera in enumerate(plan.cameras):
        truth = read_truth(folder, camera)
        found = noisy_boxes(truth, plan, rates, np.random.default_rng([plan.seed, 9, number]))
        starts: dict[int, list[int]] = {}
        for walk in walks:
            if walk.camera == number:
                starts.setdefault(walk.person + 1, []).append(int(walk.times[0] * plan.fps))
        video = folder / f"{camera}{plan.suffix}"
        cases.append(CameraCase(f"{plan.seed}{camera}", video, plan.fps, truth, found, starts))
    return cases


@dataclass
class TrackerCost:
    """What a tracker took: seconds in all, those in the embedder, and the numbers of frames, boxes and embeddings."""

    seconds: float = 0.0
    embedding: float = 0.0
    frames: int = 0
    boxes: int = 0
    embeddings: int = 0


def track_case(case: CameraCase, options: TrackerOptions, embed: Embed | None, cost: TrackerCost) -> list[np.ndarray]:
    """Return the ids of our tracker per frame; adds what it took to `cost`."""
    tracker, ids = Tracker(options), []
    for frame in open_frames(case.video).frames():
        found = case.found[frame.number]

        def look(rows: np.ndarray, pixels: np.ndarray = frame.pixels, boxes: np.ndarray = found.boxes) -> np.ndarray:
            started = time.perf_counter()
            vectors = embed([crop(pixels, box) for box in boxes[rows]])  # type: ignore[misc]
            cost.embedding += time.perf_counter() - started
            cost.embeddings += len(rows)
            return vectors

        started = time.perf_counter()
        ids.append(tracker.update(frame, found, look if embed else None))
        cost.seconds += time.perf_counter() - started
        cost.frames += 1
        cost.boxes += len(found)
    return ids


def track_by_library(
    case: CameraCase, python: str, name: str, options: Mapping[str, object], cost: TrackerCost
) -> list[np.ndarray]:
    """Return the ids per frame of a class of the package `trackers`, run by the Python of its environment.

    Raises:
        OSError: it failed; has its last line.
    """
    lengths = [len(found) for found in case.found]
    with tempfile.TemporaryDirectory() as folder:
        boxes, answer = Path(folder) / "boxes.npz", Path(folder) / "ids.npz"
        np.savez(
            boxes,
            frames=np.repeat(np.arange(len(lengths)), lengths),
            boxes=np.concatenate([found.boxes for found in case.found]),
            scores=np.concatenate([found.scores for found in case.found]),
            num_frames=len(lengths),
        )
        words = [python, str(WORKER), str(boxes), name, json.dumps({**options, "frame_rate": case.fps}), str(answer)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"{name} of {python} failed: {last_line(done.stderr)}")
        cost.seconds += json.loads(done.stdout.splitlines()[-1])["seconds"]
        ids = np.load(answer)["ids"]
    cost.frames += len(lengths)
    cost.boxes += sum(lengths)
    return np.split(ids, np.cumsum(lengths)[:-1])


def to_sequence(case: CameraCase, ids: list[np.ndarray], by_visit: bool) -> Sequence:
    """Return truth and tracks for scoring; short tracks are left out.

    Args:
        by_visit: somebody who comes back counts as somebody else, as in MOTChallenge.
    """
    lengths = Counter(number for some in ids for number in some.tolist() if number >= 0)
    kept = [np.array([lengths[number] >= LEAST_BOXES for number in some.tolist()], bool) for some in ids]
    numbers: list[list[int]] = [[] for _ in ids]
    boxes: list[list[tuple[float, ...]]] = [[] for _ in ids]
    for one in case.truth:
        visit = int(np.searchsorted(case.visits[one.person], one.frame, side="right")) if by_visit else 0
        numbers[one.frame].append(1000 * one.person + visit)
        boxes[one.frame].append(one.seen)
    return Sequence(
        [np.array(some, np.int64) for some in numbers],
        [np.array(some, float).reshape(-1, 4) for some in boxes],
        [some[keep] for some, keep in zip(ids, kept)],
        [found.boxes[keep].astype(float) for found, keep in zip(case.found, kept)],
    )


def true_crops(case: CameraCase, every: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield frame, person and crop of the true boxes of every n-th frame."""
    wanted: dict[int, list[FilmBox]] = {}
    for one in case.truth:
        if one.frame % every == 0:
            wanted.setdefault(one.frame, []).append(one)
    for frame in open_frames(case.video).frames(every):
        for one in wanted.get(frame.number, []):
            yield frame.number, one.person, crop(frame.pixels, np.array(one.box))


def crop(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of the box inside a frame (H, W, 3) BGR as RGB; a grey one if there is none."""
    x0, y0, x1, y1 = box.tolist()
    part = cut_box(pixels, x0, y0, x1 - x0, y1 - y0)
    return cv2.cvtColor(part, cv2.COLOR_BGR2RGB) if part.size else np.full((8, 4, 3), 127, np.uint8)


def colour_histograms(crops: list[np.ndarray]) -> np.ndarray:
    """Return unit vectors (n, 3 * 96) of the colours of head, body and legs: an embedding that needs no weights."""
    return np.stack([_histogram(one) for one in crops])


def _histogram(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    middle = hsv[:, hsv.shape[1] // 4 : -(hsv.shape[1] // 4) or None]
    parts = [np.ascontiguousarray(part) for part in np.array_split(middle, 3)]
    counts = [cv2.calcHist([part], [0, 1, 2], None, [12, 4, 2], [0, 180, 0, 256, 0, 256]).ravel() for part in parts]
    vector = np.sqrt(np.concatenate([count / max(count.sum(), 1) for count in counts]))
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
