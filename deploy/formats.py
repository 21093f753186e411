"""The formats: each writes a network with its metadata into a file, and loads the file as a function of arrays.

To add one: write its two functions and add a line to `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common.errors import MissingPackageError, UserError
from ..processor.embedding.foreign.runtimes import NOTES, open_onnx, open_openvino, open_torchscript, quiet
from .quantised.int8_recipe import Int8Recipe
from .quantised.onnx_int8 import quantise_onnx
from .quantised.openvino_int8 import quantise_openvino
from .wrapper import ExportedNetwork

INPUT_NAMES, OUTPUT_NAME, BATCH = ("images", "cameras"), "embeddings", "batch"
OLDEST_OPSET = 18
Run = Callable[..., np.ndarray]  # images (B, 3, H, W) and, if the model takes them, cameras (B,) -> (B, D)
Notes = dict[str, Any]


class ExportTask(NamedTuple):
    """What to write: the network, an example of its inputs (2 images, or those of a fixed batch), the metadata, the ONNX opset, whether
    the batch is fixed, and INT8 if asked for.
    """

    network: ExportedNetwork
    example: tuple[Tensor, ...]
    notes: Notes
    opset: int = OLDEST_OPSET
    is_static: bool = False
    int8: Int8Recipe | None = None


class Format(NamedTuple):
    """One format.

    Args:
        suffixes: accepted file suffixes, the usual one first.
        modules: imported to write and to run a file.
        extra: vitreid's extra that installs these modules.
        write: called with the task and the path of the file.
        load: path, number of threads -> the model as a function.
        halves: the format converts a float32 network to half precision itself.
    """

    suffixes: tuple[str, ...]
    modules: tuple[str, ...]
    extra: str
    write: Callable[[ExportTask, Path], None]
    load: Callable[[Path, int], Run]
    halves: bool = False

    def check(self) -> None:
        """Raise ImportError, with the command that installs it, if a module is missing."""
        for name in self.modules:
            try:
                import_module(name)
            except ImportError as error:
                raise MissingPackageError(
                    f'--format: this format needs {name}: pip install "vitreid[{self.extra}]", or choose torchscript or '
                    f"torch-export ({error})"
                ) from error


def write_onnx(task: ExportTask, path: Path) -> None:
    """Write one .onnx file with the metadata in its metadata_props, a JSON text under each name.

    Raises:
        ValueError: the installed onnx does not support the opset.
    """
    import onnx

    if task.opset > (newest := onnx.defs.onnx_opset_version()):
        raise UserError(f"--opset: onnx {onnx.__version__} knows {OLDEST_OPSET} to {newest}, got {task.opset}")
    with quiet():
        program: Any = torch.onnx.export(
            task.network,
            task.example,
            input_names=list(INPUT_NAMES[: len(task.example)]),
            output_names=[OUTPUT_NAME],
            opset_version=task.opset,
            dynamic_shapes=None if task.is_static else dynamic_batch(task),
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update({f"{NOTES}.{key}": json.dumps(value) for key, value in task.notes.items()})
    if task.is_static:
        program.model.metadata_props["batch"] = str(len(task.example[0]))  # Ultralytics reads it
    program.save(str(path), external_data=False)
    if task.int8:
        quantise_onnx(path, path, task.int8)


def load_onnx(path: Path, threads: int) -> Run:
    """Return the model in ONNX Runtime, on the CPU."""
    return as_run(open_onnx(path, threads).run)


def write_torchscript(task: ExportTask, path: Path) -> None:
    """Write a traced module with the metadata in its extra file vitreid.json."""
    with quiet(), torch.no_grad():
        traced: Any = torch.jit.trace(task.network, task.example, check_trace=False)
        traced.save(str(path), _extra_files={f"{NOTES}.json": json.dumps(task.notes)})


def load_torchscript(path: Path, threads: int) -> Run:
    """Return the traced module; it runs with torch's number of threads."""
    return as_run(open_torchscript(path, threads).run)


def write_torch_export(task: ExportTask, path: Path) -> None:
    """Write a torch.export package with the metadata in its extra file vitreid.json."""
    with quiet():
        program = torch.export.export(task.network, task.example, dynamic_shapes=dynamic_batch(task))
        notes = {f"{NOTES}.json": json.dumps(task.notes)}
        torch.export.save(program.run_decompositions({}), str(path), extra_files=notes)


def load_torch_export(path: Path, threads: int) -> Run:
    """Return the package's module; it runs with torch's number of threads."""
    with quiet():
        module = torch.export.load(str(path)).module()
    return as_run(lambda *tensors: [module(*tensors)])


def write_openvino(task: ExportTask, path: Path) -> None:
    """Write an .xml and a .bin file by way of ONNX, with the metadata in the model's rt_info; half = float16 weights."""
    import openvino

    onnx = path.with_suffix(".onnx")
    write_onnx(task._replace(int8=None), onnx)
    model = openvino.convert_model(str(onnx))
    if task.int8:
        model = quantise_openvino(model, task.int8)
    for key, value in task.notes.items():
        model.set_rt_info(json.dumps(value), [NOTES, key])
    openvino.save_model(model, str(path), compress_to_fp16=task.notes["half"])
    onnx.unlink()


def load_openvino(path: Path, threads: int) -> Run:
    """Return the model compiled for the CPU in float32."""
    return as_run(open_openvino(path, threads).run)


def dynamic_batch(task: ExportTask) -> dict[str, dict[int, Any]]:
    """Declare the first dimension of every input as the batch size, the same for all."""
    batch = torch.export.Dim(BATCH)
    return {name: {0: batch} for name in INPUT_NAMES[: len(task.example)]}


def in_batches(run: Run, size: int) -> Run:
    """Return a function that calls `run` with exactly `size` images; the last image fills up the last batch."""

    def run_batches(*arrays: np.ndarray) -> np.ndarray:
        count, blocks = len(arrays[0]), []
        places = np.minimum(np.arange(-(-count // size) * size), count - 1)
        for start in range(0, len(places), size):
            part = places[start : start + size]
            blocks.append(run(*(array[part] for array in arrays)))
        return np.concatenate(blocks)[:count]

    return run_batches


def as_run(run: Callable[..., list[Tensor]]) -> Run:
    """Return a function of tensors as one of arrays; it returns the first output."""

    def run_arrays(*arrays: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return run(*(torch.from_numpy(array) for array in arrays))[0].numpy()

    return run_arrays


FORMATS = {
    "onnx": Format((".onnx",), ("onnx", "onnxscript", "onnxruntime"), "onnx", write_onnx, load_onnx),
    "torchscript": Format((".torchscript", ".pt", ".ts"), (), "", write_torchscript, load_torchscript),
    "torch-export": Format((".pt2",), (), "", write_torch_export, load_torch_export),
    "openvino": Format(
        (".xml",), ("onnx", "onnxscript", "openvino"), "openvino", write_openvino, load_openvino, halves=True
    ),
}
