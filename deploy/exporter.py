"""Checkpoint -> a file for another runtime, kept only if it ranks crops as the checkpoint does, within a tolerance."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import __version__
from ..common.errors import UserError
from ..common.files import check_output_file, sync
from ..common.locks import FILE as LOCK
from ..common.replace_folder import scratch_folder
from ..processor.embedding.embedder import Embedder
from ..processor.embedding.foreign.sidecar import sidecar_of
from .export_request import ExportRequest
from .export_source import ExportSource, FinishedSource, NetworkSource
from .formats import FORMATS, Format, Run
from .labelled_crops import LabelledCrops, RetrievalCost, read_labelled
from .parity import Agreement, Tolerance
from .parity_check import BATCHES, Disagreement, Latency, ParityCheck, named
from .quantised.int8_recipe import LEVELS
from .quantised.openvino_int8 import check_nncf

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
        latency: batch size -> "torch", "exported", for INT8 also "float32" -> latency on this machine.
        num_crops, threads: number of crops compared and of threads used.
        level: of INT8, a key of `LEVELS`; "" = not quantised.
        float_bytes: size of the same file in float32, for INT8.
        cost: mAP of labelled crops, if there are any.
        batch: number of images of every call, 0 = any.
    """

    path: Path
    num_bytes: int
    notes: dict[str, Any]
    agreement: Agreement
    tolerance: Tolerance
    latency: dict[int, dict[str, Latency]]
    num_crops: int
    threads: int
    level: str = ""
    float_bytes: int = 0
    cost: RetrievalCost | None = None
    batch: int = 0


class Trial(NamedTuple):
    """A written file, what its comparison found, and a sentence about what is not accepted, "" = accepted."""

    level: str
    run: Run
    agreement: Agreement
    cost: RetrievalCost | None
    problem: str


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
    if request.int8 and request.format_name == "openvino":
        check_nncf()
    embedder = open_embedder(request.weights, request.options)
    is_finished = embedder.model.network is None
    if is_finished:
        request = replace(request, input="pixels")  # the embedder of the file prepares them
        check_output_file("--output", sidecar_of(Path(request.output)), request.overwrite)
    source = FinishedSource(request, embedder) if is_finished else NetworkSource(request, form, embedder)
    check = ParityCheck(request, embedder)
    labelled = None
    if request.labelled:
        data = read_labelled(request.labelled, request.root, request.names, request.people, request.seed)
        labelled = LabelledCrops(data, embedder.planes, check.original)
    if request.int8:
        source.calibrate(check.calibration)
    output = Path(request.output)
    with scratch_folder(output) as folder:
        path = folder / output.name
        trial = _accepted(request, check.about, lambda level: _try(level, source, check, labelled, path, threads))
        float_bytes, extra = _float_file(request, source, threads) if request.int8 and not is_finished else (0, {})
        if is_finished:
            float_bytes = sum(file.stat().st_size for file in _with_weights(embedder.weights))
        latency = check.latency(trial.run, request.rounds, extra)
        size = _move_files(folder, output)
    return ExportedModel(
        *(output, size, source.notes, trial.agreement, request.tolerance, latency, len(check.planes), threads),
        *(trial.level, float_bytes, trial.cost, request.batch),
    )


def _accepted(request: ExportRequest, about: str, attempt: Callable[[str], Trial]) -> Trial:
    """Write the file, for INT8 with more and more layers in float32, until the comparison accepts it.

    Args:
        about: the crops of the comparison, for the message.
        attempt: writes the file at a level and compares it.
    Raises:
        Disagreement: it accepts none; the message has the figures of the last one.
    """
    trial = None
    for level in LEVELS if request.int8 else ("",):
        if trial is not None:
            logger.info("INT8 of %s: %s; next: %s", LEVELS[trial.level], trial.problem, LEVELS[level])
        trial = attempt(level)
        if not trial.problem:
            return trial
    assert trial is not None  # for the type checker
    hint = "; leave --half out" if request.half else "; leave --int8 out" if request.int8 else ""
    raise Disagreement(f"--output: {request.output} was not written, {trial.problem} on {about}{hint}")


def _try(
    level: str, source: ExportSource, check: ParityCheck, labelled: LabelledCrops | None, path: Path, threads: int
) -> Trial:
    """Write the file and compare it; crops with labels are embedded only if rankings agree."""
    request = check.request
    logger.info("writing %s as %s%s", request.output, request.format_name, f", INT8 {level}" if level else "")
    with named(f"{source.notes['model']} cannot be written as {request.format_name}"):
        source.write(path, level)
    with named("the model cannot be loaded again"):
        run = source.load(path, threads)
    agreement = check.agreement(run)
    problem, cost = agreement.problem(request.tolerance), None
    if labelled is not None and not problem:
        cost = labelled.cost(lambda planes, cameras: check.run_on(run, planes, cameras))
        problem = cost.problem(request.largest_loss)
    return Trial(level, run, agreement, cost, problem)


def _float_file(request: ExportRequest, source: ExportSource, threads: int) -> tuple[int, dict[str, Run]]:
    """Return the size of the model in float32 in this format, and the model itself, to be timed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(request.output).name)
        source.write(path, "")
        return sum(file.stat().st_size for file in _with_weights(path)), {"float32": source.load(path, threads)}


def _with_weights(path: Path) -> list[Path]:
    """Return the file, with OpenVINO also its .bin."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _move_files(folder: Path, output: Path) -> int:
    """Move the finished files next to `output`, each in one step and safe from a power cut; return their size in bytes."""
    files = sorted(file for file in folder.iterdir() if file.name != LOCK)  # the .bin before the .xml that names it
    size = sum(file.stat().st_size for file in files)
    for file in files:
        sync(file)
        os.replace(file, output.with_name(file.name))
    return size


def open_embedder(weights: str, options: Mapping[str, Any] | None = None) -> Embedder:
    """Return the checkpoint, or finished model, as the reference: float32 on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `Embedder`; also if a newer vitreid wrote settings that this version lacks.
    """
    try:
        return Embedder(weights, device="cpu", precision="fp32", batch_size=max(BATCHES), options=options or None)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):  # an unknown field of a settings dataclass
            raise
        raise UserError(
            f"{weights}: this version ({__version__}) does not know one of its settings ({error}); it was written by a "
            "newer vitreid, update this one"
        ) from error
