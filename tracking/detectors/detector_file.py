"""What detector files (.onnx, .xml) have in common: how they are described, fed and read."""

from __future__ import annotations

import ast
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...common.errors import UserError, choose
from ..class_names import class_list, coco_names
from ..detections import Detections
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish
from .frame_input import FrameInput, Placement
from .output_forms import FORMS, IMAGENET_MEAN, IMAGENET_STD, Reading, Shape, count_classes, recognise_form

DEFAULT_SIDE = 640  # pixels, of a model with a free input size: what YOLO, RT-DETR and D-FINE are trained with
SIZES_INPUT = "orig_target_sizes"  # second input of RT-DETR's and D-FINE's own exports: (B, 2) width, height
SOFTMAX_MODELS = ("detr", "yolos", "table-transformer")  # transformers' models with a class "no object"
INPUT_KEYS = ("size", "channels", "scale", "mean", "std", "resize", "fill")


@dataclass(frozen=True)
class ModelFileDescription:
    """How a detector file is fed and read; None = found from the file, else the usual value of its output form.

    Args:
        form: of the outputs, one of FORMS.
        classes: names by class number, or "coco80" or "coco91".
        first_class: class number of the first name; 1 for "ssd", whose class 0 is the background, else 0.
        scores: "sigmoid" or "softmax", for "detr".
        size: (height, width) of the input in pixels.
        channels, scale, mean, std, resize, fill: as `FrameInput`.
    Raises:
        UserError: a value is unknown.
    """

    form: str | None = None
    classes: Sequence[str] | str | None = None
    first_class: int | None = None
    scores: str | None = None
    size: Sequence[int] | None = None
    channels: str | None = None
    scale: float | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: str | None = None
    fill: int | None = None

    def __post_init__(self) -> None:
        if self.form is not None:
            choose("detector form", self.form, FORMS)
        if self.scores not in (None, "sigmoid", "softmax"):
            raise UserError(f"detector scores: unknown value {self.scores!r}; choose from sigmoid, softmax")

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> ModelFileDescription:
        """Return the description of JSON values.

        Args:
            where: the file they come from, for the message.
        Raises:
            UserError: a key is unknown, or a value has the wrong type.
        """
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{where}: unknown key {unknown[0]!r}; choose from {', '.join(sorted(known))}")
        try:
            for key, length in (("size", 2), ("mean", 3), ("std", 3)):
                if values.get(key) is not None and len([float(value) for value in values[key]]) != length:
                    raise UserError(f"{where}: {key} has {len(values[key])} values; expected {length}")
            return cls(**values)
        except TypeError as error:
            raise UserError(f"{where}: a value has the wrong type ({error})") from error


class FileSignature(NamedTuple):
    """What a model file states about itself.

    Args:
        input_shape: of the image input; None = free.
        input_type: NumPy name of its type, such as "float32".
        wants_sizes: whether there is a second input for the sizes of the frames.
        outputs: shapes by name.
        metadata: texts by key.
    """

    input_shape: Shape
    input_type: str
    wants_sizes: bool
    outputs: dict[str, Shape]
    metadata: dict[str, str]


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
        numbers = np.unique(raw.classes[raw.scores >= self.options.confidence])
        self._seen = sorted({*getattr(self, "_seen", ()), *numbers.tolist()})
        if len(self._seen) > 1:
            raise UserError(
                f"{self.path}: finds the classes {', '.join(map(str, self._seen))}, but states no names for them; "
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
        return ClassFilter([*[None] * first, *names], self.options.classes, str(self.path)), False


def read_description(path: Path, signature: FileSignature, given: Mapping[str, Any]) -> ModelFileDescription:
    """Return the description of a model file. Later sources replace earlier ones.

    Sources: the files of transformers in its folder (config.json, preprocessor_config.json), its own metadata, the sidecar
    NAME.json next to NAME.onnx or NAME.xml, and what the caller states.

    Raises:
        UserError: a file is no JSON object, or has an unknown key.
    """
    values = {**_from_transformers(path.parent), **_from_metadata(signature.metadata)}
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        values |= _checked(read_json_object(sidecar), str(sidecar))
    return ModelFileDescription.of(values | _checked(dict(given), "the detector's description"), str(path))


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    ModelFileDescription.of(values, where)
    return {key: value for key, value in values.items() if value is not None}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        UserError: it holds no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error}); mend it or move it away") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object with keys such as form, classes, size")
    return values


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the class names of Ultralytics' exports: `names`, a Python dict as text."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError):
        return {}
    return {"classes": [str(names[key]) for key in sorted(names)]} if isinstance(names, dict) else {}


def _from_transformers(folder: Path) -> dict[str, Any]:
    """Return what the configuration files of an export by transformers or optimum state."""
    values: dict[str, Any] = {}
    if (file := folder / "config.json").is_file():
        config = read_json_object(file)
        labels = config.get("id2label")
        if labels:
            values["classes"] = [labels[key] for key in sorted(labels, key=int)]
            values["scores"] = "softmax" if config.get("model_type") in SOFTMAX_MODELS else "sigmoid"
    if (file := folder / "preprocessor_config.json").is_file() and values:
        config = read_json_object(file)
        values["scale"] = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        if config.get("do_normalize", False):
            values |= {"mean": config.get("image_mean", IMAGENET_MEAN), "std": config.get("image_std", IMAGENET_STD)}
        size = config.get("size") or {}
        if "height" in size and "width" in size:
            values["size"] = [size["height"], size["width"]]
    return values


def _build_input(signature: FileSignature, description: ModelFileDescription, usual: Mapping[str, Any]) -> FrameInput:
    shape = signature.input_shape
    last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    sides = shape[1:3] if last else shape[2:4]
    stated = {key: getattr(description, key) for key in INPUT_KEYS if getattr(description, key) is not None}
    wanted = stated.pop("size", None) or (DEFAULT_SIDE, DEFAULT_SIDE)
    size = tuple(int(own) if own is not None else int(other) for own, other in zip(sides, wanted))
    values = {**usual, **{key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}}
    if signature.input_type == "uint8":
        values["scale"] = 1.0
    return FrameInput(size=(size[0], size[1]), last=last, dtype=signature.input_type, **values)


def _text(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def _state(path: Path, key: str) -> str:
    """Return the next step for a missing value."""
    return f'state "{key}" in {path.with_suffix(".json").name} next to it'
