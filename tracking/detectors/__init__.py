"""Detectors by name or file: pixels of frames -> boxes with class names and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...common.errors import UserError, choose
from .detector import Detector, DetectorOptions
from .onnx_detector import OnnxDetector
from .openvino_detector import OpenVinoDetector

DETECTORS: dict[str, Callable[[str, DetectorOptions], Detector]] = {
    "onnx": lambda what, options: OnnxDetector(_file(what), options),
    "openvino": lambda what, options: OpenVinoDetector(_file(what), options),
}
SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}


def open_detector(name: str | Path, options: DetectorOptions | None = None) -> Detector:
    """Return a detector.

    Args:
        name: a file (.onnx, or .xml of OpenVINO), or KIND:WHAT with KIND one of DETECTORS.
        options: settings; None = people with a score of 0.5 or more, on the best device here.
    Raises:
        UserError: no such detector; lists what is accepted.
        FileNotFoundError: no such file.
        MissingPackageError: a package is missing; names the command that installs it.
    """
    text = str(name)
    kind, colon, what = text.partition(":")
    if not (colon and kind in DETECTORS):
        kind, what = _kind_of(text), text
    return DETECTORS[kind](what, options or DetectorOptions())


def _kind_of(text: str) -> str:
    if text in DETECTORS:
        return text
    if kind := SUFFIXES.get(Path(text).suffix.lower()):
        return kind
    raise UserError(f"detector: unknown {text!r}; choose from {', '.join(sorted(DETECTORS))}, or a file .onnx or .xml")


def _file(what: str) -> Path:
    path = Path(what).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"detector: there is no file {what!r}; give the path of a model file")
    return path


__all__ = ["DETECTORS", "Detector", "DetectorOptions", "choose", "open_detector"]
