"""What all detectors have in common: their settings, the class filter, and the pass over a video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import batched_nms

from ...common.errors import MissingPackageError, UserError
from ..class_names import same_class
from ..detections import Detections, VideoFrame

SMALLEST_SIDE = 2.0  # pixels; a box that is thinner after clipping shows nothing


@dataclass(frozen=True)
class DetectorOptions:
    """Settings of a detector; each detector reads those that it has a use for.

    Args:
        classes: names of the classes to keep; "person" includes "pedestrian", "people" and "human".
        confidence: boxes below this score are dropped, 0-1.
        overlap: boxes of one class with a larger IoU than this to a box of higher score are dropped, for models without
            such a step (non-maximum suppression).
        device: auto, cuda, mps or cpu.
        precision: auto, bf16, fp16 or fp32.
        batch_size: frames per pass; a model file with a fixed batch size has its own.
        threads: CPU threads; None = as many as the runtime takes.
        weights: file with the weights, for detectors that are known by name.
        description: how a model file is fed and read (`ModelFileDescription`), in place of what its sidecar states.
    Raises:
        UserError: a value is out of range.
    """

    classes: tuple[str, ...] = ("person",)
    confidence: float = 0.5
    overlap: float = 0.6
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 4
    threads: int | None = None
    weights: Path | None = None
    description: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("confidence", self.confidence), ("overlap", self.overlap)):
            if not 0 <= value <= 1:
                raise UserError(f"detector: {name} {value:g}; give a value from 0 to 1")
        for name, number in (("batch size", self.batch_size), ("threads", self.threads)):
            if number is not None and number < 1:
                raise UserError(f"detector: {name} {number}; give 1 or more")
        if not self.classes:
            raise UserError("detector: no class to keep; give at least one, e.g. person")


class Detector(ABC):
    """Finds boxes in frames.

    Attributes:
        batch_size: frames per call of `detect` in `stream`.
        has_memory: whether the boxes of a frame depend on the frames before it; `stream` then has to see them all.
    """

    batch_size: int = 1
    has_memory: bool = False

    @abstractmethod
    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the boxes in each of some frames of equal or different size.

        Args:
            frames: (H, W, 3) uint8 BGR each.
        """

    def stream(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, Detections]]:
        """Yield each frame of one video with its boxes, in order; at most a few frames are held."""
        frames = iter(frames)
        while batch := list(islice(frames, self.batch_size)):
            yield from zip(batch, self.detect([frame.pixels for frame in batch]))


class ClassFilter:
    """The classes of a model that are kept.

    Args:
        names: of the model's classes, by number; None for a number that is no class.
        wanted: names to keep; case does not matter.
        where: the model, for the message.
    Raises:
        UserError: a wanted class is unknown to the model; lists those that it has.
    """

    def __init__(self, names: Sequence[str | None], wanted: Sequence[str], where: str) -> None:
        known = [name for name in names if name]
        for name in wanted:
            if not any(same_class(name, other) for other in known):
                listed = ", ".join(known[:40]) + (" …" if len(known) > 40 else "")
                raise UserError(f"{where}: knows no class {name!r}; choose from {listed}")
        self.names = [next((own for own in wanted if name and same_class(own, name)), None) for name in names]
        self.kept = np.array([name is not None for name in self.names])

    def mask(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of some class numbers are kept; numbers beyond the names are not."""
        inside = (numbers >= 0) & (numbers < len(self.kept))
        return inside & self.kept[np.where(inside, numbers, 0)]


@dataclass(frozen=True)
class RawBoxes:
    """What a model found in one frame, before filters.

    Args:
        boxes: (N, 4) float32 x0, y0, x1, y1 in pixels of the frame.
        scores: (N,) float32 in [0, 1].
        classes: (N,) int64 class numbers.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def finish(
    raw: RawBoxes, classes: ClassFilter, options: DetectorOptions, size: tuple[int, int], suppress: bool
) -> Detections:
    """Return the boxes of wanted classes above the confidence, clipped to the frame, the highest score first.

    Args:
        size: (height, width) of the frame in pixels.
        suppress: drop boxes that overlap one of the same class with a higher score.
    """
    keep = classes.mask(raw.classes) & (raw.scores >= options.confidence) & np.isfinite(raw.boxes).all(axis=1)
    boxes, scores, numbers = clip(raw.boxes[keep], size), raw.scores[keep], raw.classes[keep]
    large = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE).all(axis=1)
    boxes, scores, numbers = boxes[large], scores[large], numbers[large]
    order = np.argsort(-scores, kind="stable")
    if suppress:
        order = batched_nms(*map(torch.from_numpy, (boxes, scores, numbers)), options.overlap).numpy()
    labels = tuple(str(classes.names[number]) for number in numbers[order])
    return Detections.of(boxes[order], scores[order], labels)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (N, 4) limited to a frame of `size` (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height])).astype(np.float32)


def missing_video_package(what: str, name: str | None, extra: str = "vitreid[video]") -> MissingPackageError:
    """Return the error that names the missing package and the command that installs it."""
    return MissingPackageError(f"{what} needs {name}: pip install '{extra}'", name=name)
