"""What is exported: the network of a checkpoint, or a finished model in a file of another runtime, which is only quantised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from .. import __version__
from ..common.errors import UserError
from ..processor.embedding.embedder import Embedder
from ..processor.embedding.foreign.foreign_model import ForeignModel
from ..processor.embedding.foreign.sidecar import sidecar_of, write_sidecar
from .export_request import ExportRequest
from .formats import ExportTask, Format, Run, in_batches
from .input_names import as_input, describe
from .quantised.int8_recipe import Int8Recipe
from .quantised.onnx_int8 import quantise_onnx
from .quantised.openvino_int8 import quantise_openvino
from .quantised.smoothing import smooth
from .wrapper import ExportedNetwork

SMOOTHED = 16  # images of a batch that measures activations


class ExportSource(Protocol):
    """A model that can be written as a file, in float32 or float16 (level ""), or in INT8 (a key of `LEVELS`)."""

    notes: dict[str, Any]

    def calibrate(self, planes: np.ndarray) -> None:
        """Take the crops (N, 3, H, W) uint8 RGB on which INT8 measures ranges."""

    def write(self, path: Path, level: str) -> None:
        """Write the file."""

    def load(self, path: Path, threads: int) -> Run:
        """Return the written file as a function."""


class NetworkSource:
    """The network of a checkpoint.

    Raises:
        ValueError: an option does not fit the checkpoint.
    """

    def __init__(self, request: ExportRequest, form: Format, embedder: Embedder) -> None:
        self.form, self.embedder, self.request = form, embedder, request
        self.task = make_task(request, form, embedder)
        self.notes = self.task.notes
        self._inputs: tuple[np.ndarray, ...] = ()

    def calibrate(self, planes: np.ndarray) -> None:
        """Take the crops, and smooth the activations of a ViT."""
        images = as_input(planes, self.request.input, self.embedder.preprocess)
        rows = np.arange(len(planes)) % (len(self.embedder.model.cameras) + 1) - 1  # -1: an unknown camera
        self._inputs = (images, rows.astype(np.int64)) if self.request.camera_input else (images,)
        tensors = [torch.from_numpy(array) for array in self._inputs]
        starts = range(0, len(planes), SMOOTHED)
        smooth(self.task.network, (tuple(part[start : start + SMOOTHED] for part in tensors) for start in starts))

    def write(self, path: Path, level: str) -> None:
        """Write the file in this format."""
        self.form.write(self.task._replace(int8=Int8Recipe(self._inputs, level) if level else None), path)

    def load(self, path: Path, threads: int) -> Run:
        """Return the file in its runtime."""
        run = self.form.load(path, threads)
        return in_batches(run, self.request.batch) if self.request.batch else run


class FinishedSource:
    """A finished model (ONNX, OpenVINO), quantised; its description is written next to it.

    Raises:
        UserError: the request is not `int8`, or asks for what only a checkpoint has.
    """

    def __init__(self, request: ExportRequest, embedder: Embedder) -> None:
        self.source, self.format = embedder.weights, request.format_name
        suffixes = {"onnx": (".onnx",), "openvino": (".xml", ".onnx")}.get(self.format, ())
        changed = [name for name in ("half", "camera", "camera_input", "tracker", "batch") if getattr(request, name)]
        if not request.int8 or changed or self.source.suffix not in suffixes:
            raise UserError(
                f"--weights: {self.source} is a finished model already, which can only be quantised: --int8 and nothing else that "
                "changes it, .onnx to .onnx or .xml, .xml to .xml; or give the best.safetensors of a run"
            )
        self.model: ForeignModel = embedder.model
        self.embedder = embedder
        self.notes = self._facts()
        self._inputs: tuple[np.ndarray, ...] = ()

    def _facts(self) -> dict[str, Any]:
        about = self.model.description
        images = f"{about.channels.upper()}, 0 to {about.scale:g}, mean {about.mean}, std {about.std}"
        return {
            "version": __version__,
            "model": self.model.title,
            "dimension": self.model.dim,
            "input": {"images": images, "size": list(about.size), "dtype": self.model.file.images.dtype},
            "embed": self.embedder.settings.to_dict(),
            "half": False,
            "int8": True,
        }

    def calibrate(self, planes: np.ndarray) -> None:
        """Take the crops."""
        images = self.embedder.preprocess.normalise(torch.from_numpy(planes))
        self._inputs = tuple(part.numpy() for part in self.model.inputs(images, torch.full((len(planes),), -1)))

    def write(self, path: Path, level: str) -> None:
        """Write the quantised file, and its description as a JSON file next to it."""
        recipe = Int8Recipe(self._inputs, level)
        if self.format == "onnx":
            quantise_onnx(self.source, path, recipe)
        else:
            import openvino

            openvino.save_model(
                quantise_openvino(openvino.Core().read_model(str(self.source)), recipe), str(path), False
            )
        write_sidecar(sidecar_of(path), self.description)

    @property
    def description(self) -> Mapping[str, Any]:
        """What the file expects; the runtime is that of its suffix unless the original was opened by another one."""
        values = self.model.description.to_dict()
        return values if self.source.suffix == f".{self.format}" else {**values, "runtime": ""}

    def load(self, path: Path, threads: int) -> Run:
        """Return the file as a function of uint8 RGB planes."""
        opened = Embedder(path, device="cpu", batch_size=self.embedder.batch_size)

        def run(planes: np.ndarray) -> np.ndarray:
            return opened.embed(planes, [None] * len(planes))

        return run


def make_task(request: ExportRequest, form: Format, embedder: Embedder) -> ExportTask:
    """Return the network to write, an example of its inputs, and the metadata."""
    cameras = embedder.model.spec.cameras if embedder.model.spec.sie_camera else ()
    row = request.camera_row(cameras)
    half = request.half and not form.halves
    network = ExportedNetwork(
        embedder.model, embedder.preprocess, embedder.settings, request.input, row, request.camera_input, half
    )
    count = request.batch or 2
    planes = np.zeros((count, 3, *embedder.preprocess.size), np.uint8)
    example: tuple[torch.Tensor, ...] = (torch.from_numpy(as_input(planes, request.input, embedder.preprocess)),)
    if request.camera_input:
        example += (torch.zeros(count, dtype=torch.int64),)
    notes = {
        "version": __version__,
        "fingerprint": embedder.fingerprint,
        "model": embedder.model.spec.name,
        "dimension": embedder.dim,
        "input": describe(request.input, embedder.preprocess, cameras if request.camera_input else None),
        "preprocess": embedder.preprocess.to_dict(),
        "embed": embedder.settings.to_dict(),
        "cameras": list(cameras),
        "camera": None if row is None else cameras[row],
        "half": request.half,
        "int8": request.int8,
        "threshold": embedder.threshold,
    }
    return ExportTask(network, example, notes, request.opset, bool(request.batch))
