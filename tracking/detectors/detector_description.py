"""How a detector file (.onnx, .xml) describes itself, in its metadata and in files next to it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from ...common.errors import UserError, choose
from ...common.inputs.regular_files import CONFIG_BYTES, read_json, read_text
from ...common.inputs.yaml_text import parse_yaml
from .output_forms import FORMS, IMAGENET_MEAN, IMAGENET_STD, Shape

RF_DETR_OUTPUTS = {"dets", "labels"}  # names in the package's own exports, which expect ImageNet's mean and std
SOFTMAX_MODELS = ("detr", "yolos", "table-transformer")  # transformers' models with a class "no object"
NUMBERS = {  # key of a description: type and number of its values
    "size": (int, 2),
    "mean": (float, 3),
    "std": (float, 3),
    "scale": (float, 1),
    "fill": (int, 1),
    "first_class": (int, 1),
}


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
        """Return the description of JSON values, or of texts from a command line such as {"size": "384,672"}.

        Args:
            where: the file they come from, for the message.
        Raises:
            UserError: a key is unknown, or a value has the wrong type.
        """
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{where}: unknown key {unknown[0]!r}; choose from {', '.join(sorted(known))}")
        found = {key: _typed(key, value, where) for key, value in values.items() if value is not None}
        try:
            return cls(**found)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


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


def picture_input(path: Path, inputs: Sequence[Any]) -> Any:
    """Return the first of a model's inputs that takes pictures; raise UserError if there is none."""
    if not inputs:
        raise UserError(f"{path}: this model has no input for pictures; name a detector's file")
    return inputs[0]


def _typed(key: str, value: Any, where: str) -> Any:
    """Return a value of a description in its type: texts are split at commas, or the x of 384x672, and become numbers."""
    if key == "classes":
        names = value.split(",") if isinstance(value, str) and value not in ("coco80", "coco91") else value
        if not isinstance(names, (str, list, tuple)):
            raise UserError(f"{where}: classes is {str(value)[:80]!r}; expected a list of names, or coco80 or coco91")
        return names if isinstance(names, str) else [None if name is None else str(name).strip() for name in names]
    if key == "channels" and isinstance(value, str):
        return value.lower()
    if key not in NUMBERS:
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} is {str(value)[:80]!r}; expected a text")
        return value
    kind, count = NUMBERS[key]
    parts = value.replace("x", ",").split(",") if isinstance(value, str) else value if count > 1 else [value]
    try:
        numbers = [kind(float(part)) for part in parts]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count:
        raise UserError(f"{where}: {key} is {value!r}; expected {count} number{'s' * (count > 1)}")
    return numbers if count > 1 else numbers[0]


def read_description(path: Path, signature: FileSignature, given: Mapping[str, Any]) -> ModelFileDescription:
    """Return the description of a model file. Later sources replace earlier ones.

    Sources: the files of transformers in its folder (config.json, preprocessor_config.json), its own metadata and Ultralytics'
    metadata.yaml, the JSON file next to the model, and what the caller states.

    Raises:
        UserError: a file is no JSON object, or has an unknown key.
    """
    values = {**_from_transformers(path.parent), **_from_ultralytics(path.parent, signature.metadata)}
    if set(signature.outputs) == RF_DETR_OUTPUTS:
        values = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, **values}
    sidecar = sidecar_of(path)
    if sidecar.is_file():
        values |= _checked(read_json_object(sidecar), str(sidecar))
    return ModelFileDescription.of(values | _checked(dict(given), "the detector's description"), str(path))


def sidecar_of(path: Path) -> Path:
    """Return the JSON file that describes a model file: its name with .json behind it, as for embedders."""
    return path.with_name(f"{path.name}.json")


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the values that are stated, after a check that names their place."""
    ModelFileDescription.of(values, where)
    return {key: value for key, value in values.items() if value is not None}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        UserError: it holds no JSON object.
    """
    values = read_json(path, CONFIG_BYTES)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object with keys such as form, classes, size")
    return values


def _from_ultralytics(folder: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the class names of an Ultralytics export: `names` in its metadata, or in metadata.yaml of an OpenVINO folder."""
    try:
        names = ast.literal_eval(metadata.get("names", "None"))
        if (file := folder / "metadata.yaml").is_file():
            names = parse_yaml(read_text(file, CONFIG_BYTES), str(file))["names"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
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
        values["scale"] = 255 * config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 255.0
        if config.get("do_normalize", False):
            values |= {"mean": config.get("image_mean", IMAGENET_MEAN), "std": config.get("image_std", IMAGENET_STD)}
        size = config.get("size") or {}
        if "height" in size and "width" in size:
            values["size"] = [size["height"], size["width"]]
    return values
