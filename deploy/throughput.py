"""Images per second and latency of a model in several runtimes, by batch size, measured in turns on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import MissingPackageError, UserError
from ..common.machine.turns import in_turns
from ..processor.embedding.backends import PACKAGES
from ..processor.embedding.drawn_crops import synthetic_crops
from ..processor.embedding.embedder import Embedder
from .parity_check import PAUSE

FORMS = tuple(PACKAGES)
FILES = {".onnx": ("onnx", "openvino"), ".xml": ("openvino",)}  # suffix of a finished file -> what runs it
FEWEST_ROUNDS, MOST_ROUNDS = 5, 200
Embed = Callable[[np.ndarray, list[None]], np.ndarray]


@dataclass(frozen=True)
class Throughput:
    """The speed of one form at one batch size, from pixels at the model's size to embeddings.

    Args:
        images_per_second: batch / median.
        median, p95, least: seconds per batch.
        rounds: number of timed batches.
    """

    form: str
    batch: int
    images_per_second: float
    median: float
    p95: float
    least: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        return asdict(self)


def open_forms(
    weights: str, forms: Sequence[str] = (), options: Mapping[str, Any] | None = None, batch: int = 32
) -> dict[str, Embedder]:
    """Return the model in each form.

    Args:
        weights: a checkpoint, which is exported for onnx and openvino as for `Embedder(backend=…)`; or .onnx, .xml.
        forms: keys of `FORMS`; empty = torch for a checkpoint, and for a finished file what is installed.
        options: of a finished file, see `Embedder`.
        batch: largest number of images of a pass.
    Raises:
        MissingPackageError: a form that was asked for needs a package.
        UserError: a finished file cannot be run in that form.
    """
    suffix = Path(weights).suffix
    possible = FILES.get(suffix, tuple(FORMS))
    if wrong := [form for form in forms if form not in possible]:
        raise UserError(f"--forms: {weights} cannot be run by {wrong[0]}; choose from {', '.join(possible)}")
    usual = [form for form in possible if not missing(form)] if suffix in FILES else ["torch"]
    for form in forms:
        if lacking := missing(form):
            raise MissingPackageError(f'--forms: {form} needs {lacking[0]}: pip install "vitreid[{form}]"')
    return {
        form: Embedder(
            weights, "auto" if form == "torch" else "cpu", batch_size=batch, options=options or None, backend=form
        )
        for form in forms or usual
    }


def missing(form: str) -> list[str]:
    """Return the packages that a form needs and that are not installed."""
    return [name for needed in reversed(PACKAGES[form]) for name in needed if find_spec(name) is None]


def measure_throughput(
    forms: Mapping[str, Embedder], batches: Sequence[int], seconds: float = 5.0, seed: int = 0
) -> list[Throughput]:
    """Return the speed of each form at each batch size, by batch.

    The forms take turns; the first round does not count.

    Args:
        batches: numbers of images, 1 or more.
        seconds: time for each form and batch size, within 5 to 200 rounds.
        seed: of the drawn people on the images.
    """
    found = []
    for size in batches:
        calls = {}
        for name, embedder in forms.items():
            images = synthetic_crops(min(size, 16), seed)
            planes = np.stack([embedder.planes(images[place % len(images)]) for place in range(size)])
            calls[name] = _call(embedder, planes)
        for name, times in in_turns(calls, FEWEST_ROUNDS, MOST_ROUNDS, seconds, PAUSE).items():
            median = float(np.median(times))
            found.append(
                Throughput(name, size, size / median, median, float(np.percentile(times, 95)), min(times), len(times))
            )
    return found


def _call(embedder: Embedder, planes: np.ndarray) -> Callable[[], object]:
    return lambda: embedder.embed(planes, [None] * len(planes))
