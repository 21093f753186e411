"""A checkpoint -> a file for other runtimes, which takes its place only if it ranks crops as the checkpoint does, to a tolerance."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..common.errors import UserError
from ..processor.embedding.embedder import Embedder
from .formats import FORMATS, OLDEST_OPSET, Format, Run, Task
from .input_names import INPUTS, describe, fed
from .latency import Latency, measure
from .parity import FLOAT16, FLOAT32, Agreement, Tolerance, compare, worst
from .sample_images import folder_crops, synthetic_crops
from .wrapper import Network

logger = logging.getLogger(__name__)

BATCHES = (1, 2, 7, 32)  # sizes of the batches that are compared
TIMED = (1, 32)  # sizes of the batches that are timed
FEWEST_CROPS = 16
TRACKERS = {"boxmot": "imagenet"}  # tracker -> what it feeds its re-ID model with
TORCH, SHIPPED = "torch", "shipped"


@dataclass(frozen=True)
class Order:
    """What to make, and how to check it.

    Args:
        weights: best.safetensors or last.pth of a run.
        output: the file; with OpenVINO the .xml, beside which the .bin comes.
        format: a key of `FORMATS`, empty = by the output's suffix.
        input: what the model takes as images, a key of `INPUTS`.
        half: float16 inside; input and output stay as they are.
        camera: its side information for all images, by its name or the end of it; empty = the fallback row.
        camera_input: side information by a second input.
        tracker: make what this tracker takes, a key of `TRACKERS`, empty = none.
        opset: of ONNX, 18 or more.
        crops: folder of images to compare on, empty = people drawn by vitreid.
        num_crops: images compared, at most; 16 or more: fewer say little about rankings.
        seed: of the drawn people.
        min_agreement: smallest share of places in the ranked lists, and of the first ones, that agree; None = 1, or 0.95
            with `half`, of the first ones 1.
        threads: of both runtimes, 0 = torch's default.
        rounds: batches timed, 0 = none.
        overwrite: replace an earlier file.
    Raises:
        ValueError: a value that is not possible, or two that exclude each other; names the argument.
    """

    weights: str
    output: str
    format: str = ""
    input: str = "normalised"
    half: bool = False
    camera: str = ""
    camera_input: bool = False
    tracker: str = ""
    opset: int = OLDEST_OPSET
    crops: str = ""
    num_crops: int = 64
    seed: int = 0
    min_agreement: float | None = None
    threads: int = 0
    rounds: int = 10
    overwrite: bool = False

    def __post_init__(self) -> None:
        chosen = {"--input": (self.input, INPUTS), "--for": (self.tracker, ("", *TRACKERS))}
        for option, (value, accepted) in chosen.items():
            if value not in accepted:
                raise UserError(f"{option}: unknown value {value!r}; choose from {', '.join(filter(None, accepted))}")
        for option, number, least in (
            ("--opset", self.opset, OLDEST_OPSET),
            ("--num-crops", self.num_crops, FEWEST_CROPS),
            ("--seed", self.seed, 0),
            ("--threads", self.threads, 0),
            ("--rounds", self.rounds, 0),
        ):
            if number < least:
                raise UserError(f"{option}: {least} or more, got {number}")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UserError(f"--min-agreement: a share from 0 to 1, got {self.min_agreement}")
        if self.camera and self.camera_input:
            raise UserError("--camera fixes what --camera-input leaves open; give one of them")
        self._check_tracker()

    def _check_tracker(self) -> None:
        if not self.tracker:
            return
        if self.camera_input:
            raise UserError(
                f"--camera-input: {self.tracker} gives its model images only; use --camera NAME, or neither"
            )
        if self.input != TRACKERS[self.tracker]:
            raise UserError(
                f"--for {self.tracker}: it feeds {TRACKERS[self.tracker]!r} images, not {self.input!r}; leave "
                "--preprocess and --input out"
            )
        if self.format_name != "onnx":
            raise UserError(f"--for {self.tracker}: made and tested as ONNX; give --output a name that ends in .onnx")

    @property
    def format_name(self) -> str:
        """The format, by name or by the output's suffix.

        Raises:
            ValueError: no such format, or a suffix that is not the format's.
        """
        if self.format and self.format not in FORMATS:
            raise UserError(f"--format: unknown format {self.format!r}; choose from {', '.join(FORMATS)}")
        suffix = Path(self.output).suffix
        fitting = [name for name, item in FORMATS.items() if suffix in item.suffixes]
        if not self.format and fitting:
            return fitting[0]
        if self.format and self.format in fitting:
            return self.format
        accepted = ", ".join(
            f"{' or '.join(item.suffixes)} for {name}" for name, item in FORMATS.items() if self.format in ("", name)
        )
        ending = f"ends in {suffix!r}" if suffix else "has no suffix"
        raise UserError(f"--output: {self.output} {ending}; choose a name that ends in {accepted}")

    @property
    def tolerance(self) -> Tolerance:
        """What may differ from the checkpoint."""
        usual = FLOAT16 if self.half else FLOAT32
        asked = self.min_agreement
        return usual if asked is None else usual._replace(places=asked, first=min(asked, usual.first))


@dataclass(frozen=True)
class Shipped:
    """What was made and found out.

    Args:
        path: the file, with OpenVINO the .xml.
        num_bytes: of all its files.
        notes: what the file says of itself.
        agreement: with the checkpoint, the worst over all sizes of batches.
        latency: size of batch -> "torch", "shipped" -> latency on this machine.
        tolerance: what was allowed to differ.
        num_crops, threads: what it was measured with.
    """

    path: Path
    num_bytes: int
    notes: dict[str, Any]
    agreement: Agreement
    tolerance: Tolerance
    latency: dict[int, dict[str, Latency]]
    num_crops: int
    threads: int


class Disagreement(UserError):
    """The file would not do what its checkpoint does; it was not kept."""


def ship(order: Order) -> Shipped:
    """Make the file, compare it with the checkpoint, and put it in its place.

    Raises:
        FileNotFoundError: no such weights, crops, or folder for the output.
        FileExistsError: there is an output already and it is not to be replaced.
        ImportError: the format's packages are missing; says how to install them.
        Disagreement: other embeddings or rankings than the checkpoint's; nothing was left, an earlier file is as it was.
        ValueError: an argument does not fit the checkpoint.
    """
    form = FORMATS[order.format_name]
    form.check()
    check_place(order)
    threads = order.threads or torch.get_num_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _ship(order, form, threads)
    finally:
        torch.set_num_threads(before)


def _ship(order: Order, form: Format, threads: int) -> Shipped:
    embedder = open_embedder(order.weights)
    task = make_task(order, form, embedder)
    trial = Trial(order, embedder)
    output = Path(order.output)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.absolute().parent) as folder:
        path = Path(folder) / output.name
        logger.info("writing %s as %s", output, order.format_name)
        with named(f"{embedder.model.spec.name} cannot be written as {order.format_name}"):
            form.write(task, path)
        with named("the model cannot be loaded again"):
            run = form.load(path, threads)
        agreement = trial.agreement(run)
        if problem := agreement.problem(order.tolerance):
            hint = "; leave --half out" if order.half else ""
            raise Disagreement(f"--output: {output} was not written, {problem} on {trial.about}{hint}")
        latency = trial.latency(run, order.rounds)
        files = sorted(Path(folder).iterdir())  # the .bin before the .xml that names it
        size = sum(file.stat().st_size for file in files)
        for file in files:
            put(file, output.with_name(file.name))
    return Shipped(output, size, task.notes, agreement, order.tolerance, latency, len(trial.planes), threads)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn whatever a foreign exporter or runtime raises into a Disagreement that says what failed."""
    try:
        yield
    except (OSError, ImportError, ValueError):  # a full disk, a module of theirs, or our own message
        raise
    except Exception as error:
        raise Disagreement(f"--output: {what} ({type(error).__name__}: {str(error).strip()[:300]})") from error


def check_place(order: Order) -> None:
    """Raise, before the work rather than after, if the output cannot be put where it is wanted."""
    output = Path(order.output)
    if not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: the folder {output.absolute().parent} does not exist; make it first")
    files = (output, output.with_suffix(".bin")) if order.format_name == "openvino" else (output,)
    for file in files:
        if file.is_dir():
            raise UserError(f"--output: {file} is a folder; give the name of a file in it")
        if file.exists() and not order.overwrite:
            raise FileExistsError(f"--output: {file} exists; choose another name, or --overwrite it")


def put(file: Path, target: Path) -> None:
    """Move a finished file to its place in one step, safe from a power cut."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    os.replace(file, target)


def open_embedder(weights: str) -> Embedder:
    """Return the checkpoint as the reference: float32 on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `Embedder`; also where a newer vitreid wrote settings that this one lacks.
    """
    try:
        return Embedder(weights, device="cpu", precision="fp32", batch_size=max(BATCHES))
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):  # a dataclass' unknown field
            raise
        raise UserError(
            f"{weights}: this version ({__version__}) does not know one of its settings ({error}); it was written by a "
            "newer vitreid, update this one"
        ) from error


def make_task(order: Order, form: Format, embedder: Embedder) -> Task:
    """Return what is to be written."""
    names = embedder.model.spec.cameras if embedder.model.spec.sie_camera else ()
    network = Network(
        embedder.model,
        embedder.preprocess,
        embedder.settings,
        order.input,
        camera=row_of(order, names),
        camera_input=order.camera_input,
        half=order.half and not form.halves,
    )
    planes = np.zeros((2, 3, *embedder.preprocess.size), np.uint8)
    example: tuple[torch.Tensor, ...] = (torch.from_numpy(fed(planes, order.input, embedder.preprocess)),)
    if order.camera_input:
        example += (torch.zeros(2, dtype=torch.int64),)
    return Task(network, example, make_notes(order, embedder, names), order.opset)


def row_of(order: Order, names: tuple[str, ...]) -> int | None:
    """Return the row of the fixed camera, None = the fallback.

    Raises:
        ValueError: the model has no such camera, or none at all.
    """
    if (order.camera or order.camera_input) and not names:
        option = "--camera" if order.camera else "--camera-input"
        raise UserError(f"{option}: {order.weights} was trained without MODEL.SIE_CAMERA, so cameras change nothing")
    if not order.camera:
        return None
    return names.index(camera_of(order, names))


def camera_of(order: Order, names: tuple[str, ...]) -> str:
    """Return the full name of the camera that is meant: by its name, or by what stands behind the data set's if one has it.

    Raises:
        ValueError: no camera, or several, of that name.
    """
    if order.camera in names:
        return order.camera
    fitting = [name for name in names if name.rsplit("/", 1)[-1] == order.camera]
    if len(fitting) > 1:
        raise UserError(f"--camera: {order.camera!r} may be {' or '.join(fitting)}; give the whole name")
    if not fitting:
        raise UserError(f"--camera: unknown camera {order.camera!r}; the model knows {', '.join(names)}")
    return fitting[0]


def make_notes(order: Order, embedder: Embedder, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what the file says of itself, in plain types."""
    return {
        "version": __version__,
        "fingerprint": embedder.fingerprint,
        "model": embedder.model.spec.name,
        "dimension": embedder.dim,
        "input": describe(order.input, embedder.preprocess, names if order.camera_input else None),
        "preprocess": embedder.preprocess.to_dict(),
        "embed": embedder.settings.to_dict(),
        "cameras": list(names),
        "camera": camera_of(order, names) if order.camera else None,
        "half": order.half,
        "threshold": embedder.threshold,
    }


class Trial:
    """Crops, and the embeddings that the checkpoint gives them, to hold a shipped model against."""

    def __init__(self, order: Order, embedder: Embedder) -> None:
        images = (
            folder_crops(order.crops, order.num_crops) if order.crops else synthetic_crops(order.num_crops, order.seed)
        )
        self.about = f"{len(images)} {'images of ' + order.crops if order.crops else 'drawn crops'}"
        self.order, self.embedder = order, embedder
        self.planes = np.stack([embedder.planes(image) for image in images])
        self.inputs = [fed(self.planes, order.input, embedder.preprocess)]
        cameras = embedder.model.spec.cameras
        self.names: list[str | None] = [camera_of(order, cameras) if order.camera else None] * len(images)
        if order.camera_input:
            rows = np.arange(len(images)) % (len(cameras) + 1)  # the last one: unknown
            self.names = [cameras[row] if row < len(cameras) else None for row in rows]
            self.inputs.append(np.where(rows < len(cameras), rows, -1).astype(np.int64))
        self.expected = self._torch(range(0, len(images), max(BATCHES)), max(BATCHES))

    def _torch(self, starts: range, size: int) -> np.ndarray:
        parts = (slice(start, start + size) for start in starts)
        return np.concatenate([self.embedder.embed(self.planes[part], self.names[part]) for part in parts])

    def agreement(self, run: Run) -> Agreement:
        """Return how far the model's embeddings are from the checkpoint's, the worst over the sizes of batches.

        Raises:
            Disagreement: it does not run with a size of batch, or gives something else than embeddings.
        """
        return worst([compare(self.expected, self._embed(run, size), self.order.tolerance.tie) for size in BATCHES])

    def _embed(self, run: Run, size: int) -> np.ndarray:
        starts = range(0, len(self.planes), size)
        with named(f"the model does not run with batches of {size}"):
            found = np.concatenate([run(*(array[start : start + size] for array in self.inputs)) for start in starts])
        if found.shape != self.expected.shape or found.dtype != np.float32:
            raise Disagreement(
                f"--output: the model gives {found.shape} {found.dtype} where the checkpoint gives {self.expected.shape}"
            )
        return found

    def latency(self, run: Run, rounds: int) -> dict[int, dict[str, Latency]]:
        """Return the latency of the checkpoint in torch and of the model, by size of batch."""
        return {size: self._latency(run, size, rounds) for size in TIMED if rounds}

    def _latency(self, run: Run, size: int, rounds: int) -> dict[str, Latency]:
        places = np.arange(size) % len(self.planes)
        planes, names = self.planes[places], [self.names[place] for place in places]
        cameras = [array[places] for array in self.inputs[1:]]

        def shipped() -> (
            np.ndarray
        ):  # from planes too, as torch: whoever uses the model normalises them, unless it does
            return run(fed(planes, self.order.input, self.embedder.preprocess), *cameras)

        return measure({TORCH: lambda: self.embedder.embed(planes, names), SHIPPED: shipped}, rounds)
