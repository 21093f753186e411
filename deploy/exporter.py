"""Checkpoint -> a file for another runtime, kept only if it ranks crops as the checkpoint does, within a tolerance."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..common.errors import UserError
from ..common.files import sync
from ..common.locks import FILE as LOCK
from ..common.replace_folder import scratch_folder
from ..processor.embedding.embedder import Embedder
from .export_request import ExportRequest
from .formats import FORMATS, ExportTask, Format
from .input_names import as_input, describe
from .parity import Agreement, Tolerance
from .parity_check import BATCHES, Disagreement, Latency, ParityCheck, named
from .wrapper import ExportedNetwork

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """An exported file and the result of its check.

    Args:
        path: the file, with OpenVINO the .xml.
        num_bytes: size of all its files.
        notes: the metadata written into the file.
        agreement: with the checkpoint, the worst over all batch sizes.
        tolerance: the largest differences that were accepted.
        latency: batch size -> "torch", "exported" -> latency on this machine.
        num_crops, threads: number of crops compared and of threads used.
    """

    path: Path
    num_bytes: int
    notes: dict[str, Any]
    agreement: Agreement
    tolerance: Tolerance
    latency: dict[int, dict[str, Latency]]
    num_crops: int
    threads: int


def export_model(request: ExportRequest) -> ExportedModel:
    """Write the file, compare it with the checkpoint, and move it to its place.

    Raises:
        FileNotFoundError: no such weights, crops, or folder for the output.
        FileExistsError: the output exists and may not be replaced.
        ImportError: the format's packages are missing; the message has the command that installs them.
        Disagreement: other embeddings or rankings than the checkpoint's; no file is left, an earlier file is unchanged.
        ValueError: an option does not fit the checkpoint.
    """
    form = FORMATS[request.format_name]
    form.check()
    request.check_output()
    before = torch.get_num_threads()
    threads = request.threads or before
    torch.set_num_threads(threads)
    try:
        return _export(request, form, threads)
    finally:
        torch.set_num_threads(before)


def _export(request: ExportRequest, form: Format, threads: int) -> ExportedModel:
    embedder = open_embedder(request.weights)
    task = make_task(request, form, embedder)
    check = ParityCheck(request, embedder)
    output = Path(request.output)
    with scratch_folder(output) as folder:
        path = folder / output.name
        logger.info("writing %s as %s", output, request.format_name)
        with named(f"{embedder.model.spec.name} cannot be written as {request.format_name}"):
            form.write(task, path)
        with named("the model cannot be loaded again"):
            run = form.load(path, threads)
        agreement = check.agreement(run)
        if problem := agreement.problem(request.tolerance):
            hint = "; leave --half out" if request.half else ""
            raise Disagreement(f"--output: {output} was not written, {problem} on {check.about}{hint}")
        latency = check.latency(run, request.rounds)
        size = _move_files(folder, output)
    return ExportedModel(output, size, task.notes, agreement, request.tolerance, latency, len(check.planes), threads)


def _move_files(folder: Path, output: Path) -> int:
    """Move the finished files next to `output`, each in one step and safe from a power cut; return their size in bytes."""
    files = sorted(file for file in folder.iterdir() if file.name != LOCK)  # the .bin before the .xml that names it
    size = sum(file.stat().st_size for file in files)
    for file in files:
        sync(file)
        os.replace(file, output.with_name(file.name))
    return size


def open_embedder(weights: str) -> Embedder:
    """Return the checkpoint as the reference: float32 on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `Embedder`; also if a newer vitreid wrote settings that this version lacks.
    """
    try:
        embedder = Embedder(weights, device="cpu", precision="fp32", batch_size=max(BATCHES))
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):  # an unknown field of a settings dataclass
            raise
        raise UserError(
            f"{weights}: this version ({__version__}) does not know one of its settings ({error}); it was written by a "
            "newer vitreid, update this one"
        ) from error
    if embedder.model.network is None:
        raise UserError(f"--weights: {weights} is a finished model already; give the best.safetensors of a run")
    return embedder


def make_task(request: ExportRequest, form: Format, embedder: Embedder) -> ExportTask:
    """Return the network to write, an example of its inputs, and the metadata."""
    cameras = embedder.model.spec.cameras if embedder.model.spec.sie_camera else ()
    row = request.camera_row(cameras)
    half = request.half and not form.halves
    network = ExportedNetwork(
        embedder.model, embedder.preprocess, embedder.settings, request.input, row, request.camera_input, half
    )
    planes = np.zeros((2, 3, *embedder.preprocess.size), np.uint8)
    example: tuple[torch.Tensor, ...] = (torch.from_numpy(as_input(planes, request.input, embedder.preprocess)),)
    if request.camera_input:
        example += (torch.zeros(2, dtype=torch.int64),)
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
        "threshold": embedder.threshold,
    }
    return ExportTask(network, example, notes, request.opset)
