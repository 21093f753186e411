"""Detectors in OpenVINO's format: an .xml file with its .bin file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...processor.embedding.foreign.runtimes import openvino_core
from ..detections import Detections, VideoFrame
from .detector import DetectorOptions, missing_video_package
from .detector_description import FileSignature, picture_input
from .detector_file import SIZES_INPUT, ModelFileDetector

TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i64": "int64", "i32": "int32"}


class OpenVinoDetector(ModelFileDetector):
    """An OpenVINO file on the CPU; `stream` works on several frames at once.

    Args:
        path: the .xml file; its .bin file lies next to it.
    Raises:
        MissingPackageError: OpenVINO is not installed.
        UserError: the file cannot be read, or its form is not clear.
    """

    def __init__(self, path: Path, options: DetectorOptions) -> None:
        try:
            core = openvino_core()
        except ModuleNotFoundError as error:
            raise missing_video_package("an .xml detector", error.name) from error
        if not path.with_suffix(".bin").is_file():
            raise UserError(
                f"{path}: {path.with_suffix('.bin').name} with the weights is missing next to it; copy both"
            )
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise UserError(f"{path}: OpenVINO cannot read this file ({_reason(error)})") from error
        super().__init__(path, _signature(path, model), options)
        hint: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if options.threads is not None:
            hint["INFERENCE_NUM_THREADS"] = options.threads
        if options.precision != "auto":
            hint["INFERENCE_PRECISION_HINT"] = options.precision.replace("fp", "f")
        self._compiled = core.compile_model(model, "CPU", hint)
        self._names = list(self._signature.outputs)
        self._num_jobs = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._request = self._compiled.create_infer_request()

    def run(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        self._request.infer(self._feed(tensor))
        return self._outputs(self._request)

    def stream(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, Detections]]:
        """Yield each frame with its boxes, in order; one more batch is in work than the CPU's streams take, so that none waits."""
        frames = iter(frames)
        free = [self._compiled.create_infer_request() for _ in range(self._num_jobs + 1)]
        busy: deque[tuple[Any, list[VideoFrame], list]] = deque()
        while True:
            batch = list(islice(frames, self.batch_size)) if free else []
            if batch:
                request = free.pop()
                tensor, placements = self.prepare([frame.pixels for frame in batch])
                request.start_async(self._feed(tensor))
                busy.append((request, batch, placements))
                if free:
                    continue
            if not busy:
                return
            request, batch, placements = busy.popleft()
            request.wait()
            found = self.read(self._outputs(request), placements, [frame.pixels for frame in batch])
            free.append(request)
            yield from zip(batch, found)

    def _feed(self, tensor: np.ndarray) -> list[np.ndarray]:
        return [tensor, self.sizes(len(tensor))] if self._signature.wants_sizes else [tensor]

    def _outputs(self, request: Any) -> dict[str, np.ndarray]:
        return {name: np.array(request.get_output_tensor(i).data) for i, name in enumerate(self._names)}


def _signature(path: Path, model: Any) -> FileSignature:
    """Return the shapes, types and texts of an OpenVINO model."""
    image = picture_input(path, [one for one in model.inputs if SIZES_INPUT not in one.get_names()])
    outputs = {
        next(iter(sorted(output.get_names())), f"output{number}"): _shape(output)
        for number, output in enumerate(model.outputs)
    }
    return FileSignature(
        _shape(image),
        TYPES.get(image.get_element_type().get_type_name(), "float32"),
        len(model.inputs) > 1,
        outputs,
        {},
    )


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())


def _reason(error: BaseException) -> str:
    """Return the last line of OpenVINO's message, which names the cause."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
