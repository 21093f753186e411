"""What detectors in files (.onnx, .xml) have in common: how they are fed and read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ..class_names import class_list, coco_names
from ..detections import Detections
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish
from .detector_description import FileSignature, ModelFileDescription, read_description, sidecar_of
from .frame_input import FrameInput, Placement
from .output_forms import FORMS, Reading, Shape, count_classes, recognise_form

DEFAULT_SIDE = 640  # pixels, of a model with a free input size: what YOLO, RT-DETR and D-FINE are trained with
SIZES_INPUT = "orig_target_sizes"  # second input of RT-DETR's and D-FINE's own exports: (B, 2) width, height
INPUT_KEYS = ("size", "channels", "scale", "mean", "std", "resize", "fill")


class ModelFileDetector(Detector):
    """A detector in a file; subclasses run it.

    Args:
        path: the file.
        signature: of the file.
    Raises:
        UserError: the form of its outputs, or its classes, are neither found nor stated.
    """

    def __init__(self, path: Path, signature: FileSignature, options: DetectorOptions) -> None:
        self.path, self.options = path, options
        self._signature = signature
        description = read_description(path, signature, options.description)
        self._form_name = description.form or self._recognise(description)
        self._form = FORMS[self._form_name]
        self.input = _build_input(signature, description, self._form.input)
        batch = signature.input_shape[0]
        self.batch_size = options.batch_size if batch is None else batch
        self._fixed = batch is not None
        softmax = self._uses_softmax(description)
        self._num_classes = count_classes(self._form_name, signature.outputs, softmax)
        self._softmax = softmax
        self._classes, self._any_class = self._build_filter(description)
        self._seen: set[int] = set()  # class numbers, of a file without names

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the boxes in each frame; a file with a fixed batch size gets the frames in groups of it."""
        found = []
        for start in range(0, len(frames), self.batch_size):
            group = frames[start : start + self.batch_size]
            tensor, placements = self.prepare(group)
            found += self.read(self.run(tensor), placements, group)
        return found

    def prepare(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Placement]]:
        """Return the input tensor of up to `batch_size` frames, and where each frame lies in it."""
        missing = self.batch_size - len(frames) if self._fixed else 0
        return self.input.batch([*frames, *[frames[-1]] * missing])

    @abstractmethod
    def run(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name."""

    def sizes(self, num_images: int) -> np.ndarray:
        """Return the input `orig_target_sizes`, (B, 2) int64 width and height: those of the tensor, as for other forms."""
        return np.tile(np.array(self.input.size[::-1], np.int64), (num_images, 1))

    def read(
        self, outputs: Mapping[str, np.ndarray], placements: Sequence[Placement], frames: Sequence[np.ndarray]
    ) -> list[Detections]:
        """Return the boxes of the model's outputs, in pixels of each frame."""
        reading = Reading(self.input.size, len(placements), self._num_classes, self._softmax)
        raw = self._form.decode(outputs, reading)
        return [self._finish(*one) for one in zip(raw, placements, frames)]

    def _finish(self, raw: RawBoxes, placement: Placement, frame: np.ndarray) -> Detections:
        if self._any_class:
            self._check_single_class(raw)
            raw = RawBoxes(raw.boxes, raw.scores, np.zeros(len(raw.scores), np.int64))
        moved = RawBoxes(placement.to_frame(raw.boxes), raw.scores, raw.classes)
        return finish(moved, self._classes, self.options, frame.shape[:2], self._form.suppress)

    def _check_single_class(self, raw: RawBoxes) -> None:
        """Raise UserError if boxes of several classes come from a file whose classes have no names."""
        sure = (raw.scores >= self.options.confidence) & (raw.scores > 0)
        self._seen.update(raw.classes[sure].tolist())
        if len(self._seen) > 1:
            raise UserError(
                f"{self.path}: finds the classes {', '.join(map(str, sorted(self._seen)))}, but states no names for them; "
                f"{_state(self.path, 'classes')}"
            )

    def _recognise(self, description: ModelFileDescription) -> str:
        names = class_list(description.classes)
        shapes = self._signature.outputs
        form = recognise_form(shapes, len(names) if names else None)
        if form is None:
            listed = ", ".join(f"{name} {_text(shape)}" for name, shape in shapes.items())
            forms = "; ".join(f"{name}: {one.about}" for name, one in FORMS.items())
            raise UserError(
                f"{self.path}: the form of its outputs is not clear ({listed}); {_state(self.path, 'form')}, one of {forms}"
            )
        return form

    def _uses_softmax(self, description: ModelFileDescription) -> bool:
        if description.scores is not None:
            return description.scores == "softmax"
        return count_classes(self._form_name, self._signature.outputs, softmax=False) == 92  # DETR on COCO: 91 + none

    def _build_filter(self, description: ModelFileDescription) -> tuple[ClassFilter, bool]:
        """Return the class filter, and whether all class numbers stand for the one class "person"."""
        names = class_list(description.classes) or coco_names(self._num_classes)
        unnamed = names is None and (self._form_name in ("ssd", "scored") or self._num_classes == 1)
        if unnamed:
            return ClassFilter(["person"], self.options.classes, str(self.path)), True
        if names is None:
            count = "an unknown number of" if self._num_classes is None else self._num_classes
            raise UserError(
                f"{self.path}: has {count} classes without names; {_state(self.path, 'classes')}, e.g. coco80"
            )
        first = description.first_class
        first = int(self._form_name == "ssd") if first is None else first
        if self._num_classes is not None and len(names) + first > self._num_classes:
            raise UserError(
                f"{self.path}: has {self._num_classes} classes, but {len(names)} names from number {first} on are stated"
            )
        if self._form_name.startswith("yolo") and self._num_classes is not None:
            self._num_classes = len(names) + first  # what stands behind the classes are coefficients of masks
        return ClassFilter([*[None] * first, *names], self.options.classes, str(self.path)), False


def _build_input(signature: FileSignature, description: ModelFileDescription, usual: Mapping[str, Any]) -> FrameInput:
    shape = signature.input_shape
    last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    sides = shape[1:3] if last else shape[2:4]
    stated = {key: getattr(description, key) for key in INPUT_KEYS if getattr(description, key) is not None}
    wanted = stated.pop("size", None) or (DEFAULT_SIDE, DEFAULT_SIDE)
    size = tuple(int(other) if own is None else int(own) for own, other in zip(sides, wanted))
    if description.size is not None and size != tuple(wanted):
        raise UserError(f"detector: size {_text(tuple(wanted))} is stated, but the file's input has {_text(size)}")
    values = {**usual, **{key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}}
    if signature.input_type == "uint8":
        values["scale"] = 255.0
    return FrameInput(size=(size[0], size[1]), last=last, dtype=signature.input_type, **values)


def _text(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def _state(path: Path, key: str) -> str:
    """Return the next step for a missing value."""
    return f'state "{key}" in {sidecar_of(path).name} next to it'
