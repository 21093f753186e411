"""An exported model against its checkpoint: the same embeddings, the same rankings, and how fast."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.errors import MissingPackageError, UserError
from ..common.inputs.regular_files import read_lines
from ..common.machine.turns import in_turns
from ..datasets import CorruptImageError, name_rows, read_image
from ..datasets.readers.image_files import EXTENSIONS, walk_images
from ..processor.embedding.drawn_crops import synthetic_crops
from ..processor.embedding.embedder import Embedder
from .export_request import FEWEST_CROPS, ExportRequest
from .formats import Run
from .input_names import as_input
from .parity import Agreement, compare, worst

BATCHES = (1, 2, 7, 32)  # compared batch sizes
TIMED = (1, 32)  # timed batch sizes
PAUSE = 0.05  # seconds before each call: threads of the other runtime spin for a while and would take processor time


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
        self.calibration = np.empty((0, 3, *embedder.preprocess.size), np.uint8)  # planes of further crops, for INT8
        if request.crops:
            images, further = own_crops(request.crops, request.num_crops, request.num_calibration * request.int8)
            self.about = f"{len(images)} images of {request.crops}"
            if request.int8:
                self.calibration = np.stack([embedder.planes(image) for image in further])
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
        names = self.embedder.model.cameras
        if not self.request.camera_input:
            return [self._fixed_camera] * count
        rows = np.arange(count) % (len(names) + 1)  # the last one: unknown
        self.inputs.append(np.where(rows < len(names), rows, -1).astype(np.int64))
        return [names[row] if row < len(names) else None for row in rows]

    @property
    def _fixed_camera(self) -> str | None:
        """The camera that the file takes for all images; None = an unknown one."""
        row = self.request.camera_row(self.embedder.model.cameras)
        return None if row is None else self.embedder.model.cameras[row]

    def original(self, planes: np.ndarray, cameras: Sequence[str | None]) -> np.ndarray:
        """Return the embeddings of the original model, which is given the cameras only if the file is given them too."""
        given = cameras if self.request.camera_input else [self._fixed_camera] * len(planes)
        return self.embedder.embed(planes, given)

    def run_on(self, run: Run, planes: np.ndarray, cameras: Sequence[str | None]) -> np.ndarray:
        """Return the embeddings of the exported model."""
        images = as_input(planes, self.request.input, self.embedder.preprocess)
        if not self.request.camera_input:
            return run(images)
        return run(images, name_rows([name or "" for name in cameras], self.embedder.model.cameras)[:-1].numpy())

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

    def latency(self, run: Run, rounds: int, others: Mapping[str, Run] | None = None) -> dict[int, dict[str, Latency]]:
        """Return the latency of the original model, of others and of the exported model, by batch size."""
        sizes = (self.request.batch,) if self.request.batch else TIMED
        return {size: self._latency({**(others or {}), "exported": run}, size, rounds) for size in sizes if rounds}

    def _latency(self, runs: Mapping[str, Run], size: int, rounds: int) -> dict[str, Latency]:
        places = np.arange(size) % len(self.planes)
        planes, names = self.planes[places], [self.cameras[place] for place in places]
        rows = [array[places] for array in self.inputs[1:]]

        def timed(
            run: Run,
        ) -> Callable[[], object]:  # all start from pixels: the caller of a file without normalisation does it
            return lambda: run(as_input(planes, self.request.input, self.embedder.preprocess), *rows)

        original = "torch" if self.embedder.model.network is not None else "original"
        calls = {original: lambda: self.embedder.embed(planes, names), **{key: timed(run) for key, run in runs.items()}}
        return measure(calls, rounds)


def measure(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Latency]:
    """Return the latency of each call over `rounds` rounds, after a warm-up round."""
    seconds = in_turns(calls, rounds, rounds, pause=PAUSE)
    return {name: Latency(statistics.median(times), min(times), max(times)) for name, times in seconds.items()}


def own_crops(source: str, count: int, further: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read up to `count` of the user's images, and up to `further` others, both spread evenly over the sorted names.

    Args:
        source: a folder, with its sub-folders, or a CSV file with the column path.
        further: 0 = none.
    Raises:
        FileNotFoundError: no such folder or file, or no image in it.
        ValueError: one of them cannot be read, or there are too few for both; names it.
    """
    paths = listed_crops(source)
    if further and len(paths) < 2 * FEWEST_CROPS:
        raise UserError(
            f"--crops: {source} has {len(paths)} images; --int8 compares on {FEWEST_CROPS} or more and measures on "
            f"{FEWEST_CROPS} or more others"
        )
    if further and len(paths) < count + further:
        count = max(FEWEST_CROPS, len(paths) * count // (count + further))
    chosen = spread(len(paths), count)
    rest = np.setdiff1d(np.arange(len(paths)), chosen)
    others = rest[spread(len(rest), further)] if further else rest[:0]
    return [_read(paths[place]) for place in chosen], [_read(paths[place]) for place in others]


def spread(total: int, count: int) -> np.ndarray:
    """Return up to `count` positions from 0 to total - 1, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int)


def folder_crops(folder: str, count: int) -> list[np.ndarray]:
    """Read up to `count` images of a folder and its sub-folders; see `own_crops`."""
    return own_crops(folder, count)[0]


def listed_crops(source: str) -> list[str]:
    """Return the image files of a folder and its sub-folders, or of the column path of a CSV file.

    Raises:
        FileNotFoundError: no such folder or file, or no image in it.
        UserError: the file has no column path.
    """
    place = Path(source).expanduser()
    if place.is_dir():
        paths = list(walk_images(place))
    elif place.is_file():
        rows = csv.DictReader(read_lines(place))
        if "path" not in (rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise UserError(f"--crops: {source}:1: expected a CSV file with the column path; found {found}")
        paths = [str(place.parent / row["path"]) for row in rows if row["path"]]
    else:
        raise FileNotFoundError(f"--crops: there is no folder {source}")
    if not paths:
        raise FileNotFoundError(f"--crops: no image ({', '.join(EXTENSIONS)}) in {source} or below")
    return paths


def _read(path: str) -> np.ndarray:
    try:
        return read_image(path)
    except CorruptImageError as error:
        raise UserError(f"--crops: {path} cannot be read as an image; replace it, or move it elsewhere") from error
