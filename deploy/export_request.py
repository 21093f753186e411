"""What to export, and how to check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from ..common.files import check_output_file
from ..labels.camera_names import fitting
from .formats import FORMATS, OLDEST_OPSET
from .input_names import INPUTS
from .parity import FLOAT16, FLOAT32, INT8, Tolerance

FEWEST_CROPS = 16
INT8_FORMATS = STATIC_FORMATS = ("onnx", "openvino")
USUAL_LOSS = 1.0  # points of mAP
TRACKERS = {  # tracker -> the input that it gives its re-ID model, a key of INPUTS
    "boxmot": "imagenet",
    "ultralytics": "unit",
    "deepstream": "bytes",
}


@dataclass(frozen=True)
class ExportRequest:
    """A model to export. Values are checked here; what depends on the checkpoint is checked by `export_model`.

    Args:
        weights: best.safetensors or last.pth of a run.
        output: the file; with OpenVINO the .xml, the .bin is written next to it.
        format: a key of `FORMATS`, empty = by the output's suffix.
        input: what the model takes as images, a key of `INPUTS`.
        half: compute in float16; input and output keep their types.
        int8: weights and activations of products and convolutions in 8 bits, with ranges measured on `crops`.
        camera: name, or end of the name, of the camera of all images; empty = the fallback row of the side information.
        camera_input: take camera numbers as a second input.
        tracker: export in the form that this tracker takes, a key of `TRACKERS`, empty = none.
        opset: ONNX opset, 18 or more.
        batch: number of images of every call, which fixes all shapes; 0 = any.
        crops: images for the comparison and for `int8`: a folder, or a CSV file with the column path; empty = synthetic people.
        num_crops: largest number of images compared, 16 or more: fewer say little about rankings.
        num_calibration: largest number of further images that `int8` measures ranges on, 16 or more.
        labelled: crops with labels, on which the mAP of the model and of the file is measured, see `read_labelled`; empty = none.
        root, names, people: of the labelled crops, see `read_labelled`.
        max_loss: points of mAP that the file may lose on the labelled crops; None = 1.
        seed: of the synthetic people.
        min_agreement: smallest share of ranks, and of first ranks, that agree; None = 1; with `half` 0.95 of all ranks and 1 of
            the first ones, with `int8` 0.9 and 0.95.
        threads: of both runtimes, 0 = torch's default.
        rounds: number of timed batches, 0 = none.
        overwrite: replace an earlier file.
        options: what a finished model expects, see `Embedder`.
    Raises:
        ValueError: a value that is not possible, or two that exclude each other; names the option.
    """

    weights: str
    output: str
    format: str = ""
    input: str = "normalised"
    half: bool = False
    int8: bool = False
    camera: str = ""
    camera_input: bool = False
    tracker: str = ""
    opset: int = OLDEST_OPSET
    batch: int = 0
    crops: str = ""
    num_crops: int = 64
    num_calibration: int = 128
    labelled: str = ""
    root: str = ""
    names: str = ""
    people: int = 0
    max_loss: float | None = None
    seed: int = 0
    min_agreement: float | None = None
    threads: int = 0
    rounds: int = 10
    overwrite: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = {"--input": (self.input, INPUTS), "--for": (self.tracker, ("", *TRACKERS))}
        for option, (value, accepted) in chosen.items():
            if value not in accepted:
                raise UserError(f"{option}: unknown value {value!r}; choose from {', '.join(filter(None, accepted))}")
        for option, number, least in (
            ("--opset", self.opset, OLDEST_OPSET),
            ("--num-crops", self.num_crops, FEWEST_CROPS),
            ("--num-calibration", self.num_calibration, FEWEST_CROPS),
            ("--people", self.people, 0),
            ("--batch", self.batch, 0),
            ("--seed", self.seed, 0),
            ("--threads", self.threads, 0),
            ("--rounds", self.rounds, 0),
        ):
            if number < least:
                raise UserError(f"{option}: {least} or more, got {number}")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UserError(f"--min-agreement: a share from 0 to 1, got {self.min_agreement}")
        if self.camera and self.camera_input:
            raise UserError("--camera sets the camera that --camera-input leaves open; give one of them")
        if self.batch and self.format_name not in STATIC_FORMATS:
            raise UserError(f"--batch: for {' and '.join(STATIC_FORMATS)}, not for {self.format_name}; leave it out")
        if self.int8:
            self._check_int8()
        if (self.max_loss is not None or self.people or self.root or self.names) and not self.labelled:
            raise UserError("--max-loss, --people, --root, --names: for crops with labels; give --labelled too")
        if self.max_loss is not None and not 0 <= self.max_loss <= 100:
            raise UserError(f"--max-loss: points of mAP, 0 to 100, got {self.max_loss}")
        if self.tracker:
            self._check_tracker()

    def _check_int8(self) -> None:
        if self.half:
            raise UserError("--int8 and --half exclude each other; give one of them")
        if self.format_name not in INT8_FORMATS:
            raise UserError(f"--int8: for {' and '.join(INT8_FORMATS)}, not for {self.format_name}; change --output")
        if not self.crops:
            raise UserError(
                "--int8: the ranges of its values are measured on crops of your cameras; give --crops FOLDER, or a CSV file with "
                "the column path"
            )

    def _check_tracker(self) -> None:
        if self.camera_input:
            raise UserError(
                f"--camera-input: {self.tracker} gives its model images only; use --camera NAME, or neither"
            )
        if self.input != TRACKERS[self.tracker]:
            raise UserError(
                f"--for {self.tracker}: its images are {TRACKERS[self.tracker]!r}, not {self.input!r}; leave "
                "--preprocess and --input out"
            )
        if self.format_name != "onnx":
            raise UserError(f"--for {self.tracker}: tested as ONNX only; give --output a name that ends in .onnx")

    @property
    def format_name(self) -> str:
        """The format, by name or by the output's suffix.

        Raises:
            ValueError: no such format, or a suffix that does not belong to the format.
        """
        if self.format and self.format not in FORMATS:
            raise UserError(f"--format: unknown format {self.format!r}; choose from {', '.join(FORMATS)}")
        suffix = Path(self.output).suffix
        possible = {name: item.suffixes for name, item in FORMATS.items() if self.format in ("", name)}
        for name, suffixes in possible.items():
            if suffix in suffixes:
                return name
        accepted = ", ".join(f"{' or '.join(suffixes)} for {name}" for name, suffixes in possible.items())
        ending = f"ends in {suffix!r}" if suffix else "has no suffix"
        raise UserError(f"--output: {self.output} {ending}; choose a name that ends in {accepted}")

    @property
    def tolerance(self) -> Tolerance:
        """The largest differences from the checkpoint that are accepted."""
        usual = INT8 if self.int8 else FLOAT16 if self.half else FLOAT32
        asked = self.min_agreement
        return usual if asked is None else usual._replace(places=asked, first=min(asked, usual.first))

    @property
    def largest_loss(self) -> float:
        """The points of mAP that the file may lose."""
        return USUAL_LOSS if self.max_loss is None else self.max_loss

    def check_output(self) -> None:
        """Raise before the work starts if the output cannot be written."""
        check_output_file("--output", self.output, self.overwrite)
        if self.format_name == "openvino":
            check_output_file("--output", Path(self.output).with_suffix(".bin"), self.overwrite)

    def camera_row(self, cameras: Sequence[str]) -> int | None:
        """Return the row of `camera` in the model's side information; None = the fallback row.

        Args:
            cameras: the model's camera names, empty if it has no side information. A name may be given without its data set
                if only one camera ends so.
        Raises:
            ValueError: no camera, or several, of that name; or a camera is given and the model has none.
        """
        if (self.camera or self.camera_input) and not cameras:
            option = "--camera" if self.camera else "--camera-input"
            raise UserError(f"{option}: {self.weights} was trained without MODEL.SIE_CAMERA, so cameras change nothing")
        if not self.camera:
            return None
        rows = fitting(self.camera, cameras)
        if len(rows) > 1:
            names = " or ".join(cameras[row] for row in rows)
            raise UserError(f"--camera: {self.camera!r} may be {names}; give the whole name")
        if not rows:
            raise UserError(f"--camera: unknown camera {self.camera!r}; the model knows {', '.join(cameras)}")
        return rows[0]
