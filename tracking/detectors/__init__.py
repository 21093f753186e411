"""Detectors by name or file: pixels of frames -> boxes with class names and scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...common.errors import UserError
from .detector import Detector, DetectorOptions
from .motion import MotionDetector
from .onnx_detector import OnnxDetector
from .openvino_detector import OpenVinoDetector
from .rfdetr_detector import RfDetrDetector
from .torchvision_detector import TorchvisionDetector, torchvision_names
from .transformers_detector import TransformersDetector

DETECTORS: dict[str, Callable[[str, DetectorOptions], Detector]] = {  # KIND: what to do with the text behind "KIND:"
    "motion": MotionDetector,
    "onnx": lambda what, options: OnnxDetector(_file(what), options),
    "openvino": lambda what, options: OpenVinoDetector(_file(what), options),
    "rfdetr": RfDetrDetector,
    "torchvision": TorchvisionDetector,
    "transformers": TransformersDetector,
}
WITH_WEIGHTS = ("rfdetr", "torchvision")  # known by name; their weights are a file apart
SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
EXAMPLES = (
    "motion; a file .onnx or .xml; a folder or hub name of transformers such as PekingU/rtdetr_v2_r18vd; rfdetr:nano; "
    "torchvision:fasterrcnn_resnet50_fpn_v2@weights.pth"
)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def open_detector(name: str | Path, options: DetectorOptions | None = None) -> Detector:
    """Return a detector.

    Args:
        name: KIND:WHAT with a kind of DETECTORS, or something that shows its kind: motion, a file .onnx or .xml, a folder of
            transformers, a name on the hub (owner/model), rfdetr, a model of torchvision. torchvision:MODEL@FILE and
            rfdetr:SIZE@FILE name the weights too.
        options: settings; None = people with a score of 0.5 or more, on the best device here.
    Raises:
        UserError: no such detector; lists what is accepted.
        FileNotFoundError: no such file.
        MissingPackageError: a package is missing; names the command that installs it.
    """
    text = str(name)
    kind, _, what = text.partition(":")
    if kind not in DETECTORS:
        kind, what = kind_of_detector(text), text
    options = options or DetectorOptions()
    if kind in WITH_WEIGHTS and "@" in what:
        what, _, weights = what.partition("@")
        options = replace(options, weights=Path(weights).expanduser())
    return DETECTORS[kind](what, options)


def kind_of_detector(text: str) -> str:
    """Return the kind of a file, folder or model name.

    >>> kind_of_detector("people.onnx"), kind_of_detector("PekingU/rtdetr_v2_r18vd")
    ('onnx', 'transformers')

    Raises:
        UserError: it is none.
    """
    path = Path(text).expanduser()
    if kind := SUFFIXES.get(path.suffix.lower()):
        return kind
    if path.is_dir():
        return _kind_of_folder(path)
    if text.partition("@")[0] in torchvision_names():
        return "torchvision"
    if path.suffix.lower() in (".pt", ".pth", ".safetensors", ".engine"):
        raise UserError(
            f"detector: {text!r} holds weights only; export the model to ONNX (Ultralytics: `yolo export format=onnx`) and give "
            f"that file. Accepted: {EXAMPLES}"
        )
    if _HUB_NAME.fullmatch(text) and not path.parent.is_dir():
        return "transformers"
    raise UserError(f"detector: unknown {text!r}; choose from {', '.join(sorted(DETECTORS))}. Accepted: {EXAMPLES}")


def _kind_of_folder(folder: Path) -> str:
    """Return the kind of a folder: with a model of transformers, or with one model file (an export by Ultralytics or optimum)."""
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return "transformers"
    files = model_files(folder)
    if len(files) == 1:
        return SUFFIXES[files[0].suffix.lower()]
    raise UserError(
        f"detector: the folder {folder} has neither config.json and model.safetensors of transformers nor one file .onnx or "
        f".xml, but {len(files)} of them; give the file"
    )


def model_files(folder: Path) -> list[Path]:
    """Return the model files directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _file(what: str) -> Path:
    path = Path(what).expanduser()
    if path.is_dir() and len(files := model_files(path)) == 1:
        return files[0]
    if not path.is_file():
        raise FileNotFoundError(f"detector: there is no file {what!r}; give the path of a model file")
    return path


__all__ = ["DETECTORS", "Detector", "DetectorOptions", "open_detector"]
