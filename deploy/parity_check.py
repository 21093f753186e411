"""An exported model against its checkpoint: the same embeddings, the same rankings, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.errors import MissingPackageError, UserError
from ..datasets import CorruptImageError, read_image
from ..datasets.readers.image_files import EXTENSIONS, walk_images
from ..datasets.synthetic.camera import make_cameras, photograph
from ..datasets.synthetic.identity import make_people
from ..processor.embedding.embedder import Embedder
from .export_request import ExportRequest
from .formats import Run
from .input_names import as_input
from .parity import Agreement, compare, worst

BATCHES = (1, 2, 7, 32)  # compared batch sizes
TIMED = (1, 32)  # timed batch sizes
PAUSE = 0.05  # seconds before each call: threads of the other runtime spin for a while and would take processor time
NUM_CAMERAS = 4  # of the synthetic crops


class Latency(NamedTuple):
    """Seconds per batch: median, smallest and largest over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{1000 * self.median:.1f} ms ({1000 * self.least:.1f} - {1000 * self.most:.1f})"


class Disagreement(UserError):
    """The exported model differs from its checkpoint, or does not run; the file is not kept."""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn an exception of a foreign exporter or runtime into a Disagreement that says what failed."""
    try:
        yield
    except (OSError, UserError, MissingPackageError):  # a full disk, or our own message
        raise
    except Exception as error:
        raise Disagreement(f"--output: {what} ({type(error).__name__}: {str(error).strip()[:300]})") from error


class ParityCheck:
    """Sample crops and the checkpoint's embeddings of them, the reference for an exported model."""

    def __init__(self, request: ExportRequest, embedder: Embedder) -> None:
        self.request, self.embedder = request, embedder
        if request.crops:
            images = folder_crops(request.crops, request.num_crops)
            self.about = f"{len(images)} images of {request.crops}"
        else:
            images = synthetic_crops(request.num_crops, request.seed)
            self.about = f"{len(images)} synthetic crops"
        self.planes = np.stack([embedder.planes(image) for image in images])
        self.inputs = [as_input(self.planes, request.input, embedder.preprocess)]
        self.cameras = self._cameras(len(images))
        parts = [slice(start, start + max(BATCHES)) for start in range(0, len(images), max(BATCHES))]
        self.expected = np.concatenate([embedder.embed(self.planes[part], self.cameras[part]) for part in parts])

    def _cameras(self, count: int) -> list[str | None]:
        """Return the camera of each crop; with a camera input, all cameras in turn and an unknown one."""
        names = self.embedder.model.spec.cameras if self.embedder.model.spec.sie_camera else ()
        if not self.request.camera_input:
            row = self.request.camera_row(names)
            return [None if row is None else names[row]] * count
        rows = np.arange(count) % (len(names) + 1)  # the last one: unknown
        self.inputs.append(np.where(rows < len(names), rows, -1).astype(np.int64))
        return [names[row] if row < len(names) else None for row in rows]

    def agreement(self, run: Run) -> Agreement:
        """Return the worst agreement of the exported model with the checkpoint over all batch sizes."""
        return worst([compare(self.expected, self._embed(run, size), self.request.tolerance.tie) for size in BATCHES])

    def _embed(self, run: Run, size: int) -> np.ndarray:
        starts = range(0, len(self.planes), size)
        with named(f"the model does not run with batches of {size}"):
            found = np.concatenate([run(*(array[start : start + size] for array in self.inputs)) for start in starts])
        if found.shape != self.expected.shape or found.dtype != np.float32:
            raise Disagreement(
                f"--output: the model gives {found.shape} {found.dtype} where the checkpoint gives {self.expected.shape}"
            )
        return found

    def latency(self, run: Run, rounds: int) -> dict[int, dict[str, Latency]]:
        """Return the latency of the checkpoint in torch and of the exported model, by batch size."""
        return {size: self._latency(run, size, rounds) for size in TIMED if rounds}

    def _latency(self, run: Run, size: int, rounds: int) -> dict[str, Latency]:
        places = np.arange(size) % len(self.planes)
        planes, names = self.planes[places], [self.cameras[place] for place in places]
        rows = [array[places] for array in self.inputs[1:]]

        def exported() -> np.ndarray:  # both start from pixels: without an own normalisation the caller normalises
            return run(as_input(planes, self.request.input, self.embedder.preprocess), *rows)

        return measure({"torch": lambda: self.embedder.embed(planes, names), "exported": exported}, rounds)


def measure(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Latency]:
    """Return the latency of each call over `rounds` rounds, after a warm-up round.

    The calls alternate, round after round, because the speed of a machine drifts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: Latency(statistics.median(times), min(times), max(times)) for name, times in seconds.items()}


def synthetic_crops(count: int, seed: int) -> list[np.ndarray]:
    """Draw `count` images (128, 64, 3) uint8 RGB: each person seen once by each of four cameras."""
    people = make_people(count // NUM_CAMERAS + 4, seed)
    cameras = make_cameras(NUM_CAMERAS, seed)
    rng = np.random.default_rng([seed, 3])
    return [
        photograph(cameras[number % NUM_CAMERAS], people[number // NUM_CAMERAS], people[-2:], (128, 64), rng)
        for number in range(count)
    ]


def folder_crops(folder: str, count: int) -> list[np.ndarray]:
    """Read up to `count` images of a folder and its subfolders, spread evenly over the sorted names.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: one of them cannot be read; names it.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"--crops: there is no folder {folder}")
    paths = list(walk_images(folder))
    if not paths:
        raise FileNotFoundError(f"--crops: no image ({', '.join(EXTENSIONS)}) in {folder} or below")
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [_read(paths[place]) for place in chosen]


def _read(path: str) -> np.ndarray:
    try:
        return read_image(path)
    except CorruptImageError as error:
        raise UserError(f"--crops: {path} cannot be read as an image; replace it, or move it elsewhere") from error
