"""An exported model against its checkpoint: the same embeddings, the same rankings, and how fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..common.errors import UserError
from ..processor.embedding.embedder import Embedder
from .export_request import ExportRequest
from .formats import Run
from .input_names import as_input
from .latency import Latency, measure
from .parity import Agreement, compare, worst
from .sample_images import folder_crops, synthetic_crops

BATCHES = (1, 2, 7, 32)  # compared batch sizes
TIMED = (1, 32)  # timed batch sizes


class Disagreement(UserError):
    """The exported model differs from its checkpoint, or does not run; the file is not kept."""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn an exception of a foreign exporter or runtime into a Disagreement that says what failed."""
    try:
        yield
    except (OSError, ImportError, ValueError):  # a full disk, a missing module, or our own message
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
        self.expected = np.concatenate(
            [
                embedder.embed(self.planes[start : start + max(BATCHES)], self.cameras[start : start + max(BATCHES)])
                for start in range(0, len(images), max(BATCHES))
            ]
        )

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
        """Return the worst agreement of the exported model with the checkpoint over all batch sizes.

        Raises:
            Disagreement: it does not run with a batch size, or its output has another shape or type.
        """
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
