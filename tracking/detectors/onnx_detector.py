"""Detectors as ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.text import first_line
from ...processor.device import pick_device
from .detector import DetectorOptions, missing_video_package
from .detector_description import FileSignature, picture_input
from .detector_file import SIZES_INPUT, ModelFileDetector

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxDetector(ModelFileDetector):
    """An ONNX file; on CUDA where ONNX Runtime has it, else on the CPU.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        UserError: the file cannot be read, or its form is not clear.
    """

    def __init__(self, path: Path, options: DetectorOptions) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise missing_video_package("an .onnx detector", error.name) from error
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        providers = ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and options.device != "cpu":
            providers = ["CUDAExecutionProvider", *providers]
        elif options.device == "cuda":
            pick_device("cuda")
            raise UserError(f"{path}: device cuda needs ONNX Runtime for GPUs: pip install onnxruntime-gpu")
        try:
            self._session = onnxruntime.InferenceSession(path, settings, providers=providers)
        except Exception as error:  # ONNX Runtime has no common class of errors
            raise UserError(f"{path}: ONNX Runtime cannot read this file ({first_line(error)})") from error
        super().__init__(path, _signature(path, self._session), options)
        self._image = next(one.name for one in self._session.get_inputs() if one.name != SIZES_INPUT)

    def run(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        feed = {self._image: tensor}
        if self._signature.wants_sizes:
            feed[SIZES_INPUT] = self.sizes(len(tensor))
        return dict(zip(self._signature.outputs, self._session.run(None, feed)))


def _signature(path: Path, session: Any) -> FileSignature:
    """Return the shapes, types and texts of an ONNX model."""
    inputs = session.get_inputs()
    image = picture_input(path, [one for one in inputs if one.name != SIZES_INPUT])
    outputs = {one.name: _shape(one.shape) for one in session.get_outputs()}
    metadata = session.get_modelmeta().custom_metadata_map
    return FileSignature(
        _shape(image.shape), TYPES.get(image.type, "float32"), len(inputs) > 1, outputs, dict(metadata)
    )


def _shape(sizes: list[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in sizes)
