"""A model file as its runtime shows it: inputs, outputs, metadata, and a function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ....common.errors import UserError

IMAGE_TYPES = ("float32", "uint8")
CAMERA_TYPES = ("int64", "int32")
Run = Callable[..., list[Tensor]]  # one tensor per input -> one per output


class Port(NamedTuple):
    """One input or output.

    Args:
        shape: its sizes, None where any size is accepted; None = the file does not say.
        dtype: NumPy's name of its type, "" = the file does not say.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else " x ".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name} ({sizes}{', ' * bool(self.dtype)}{self.dtype})"


@dataclass(frozen=True)
class ModelFile:
    """An opened file.

    Args:
        runtime: what runs it, a key of `RUNTIMES`.
        inputs: images, and perhaps cameras.
        notes: the metadata that `vitreid export-model` writes; empty in files of other programs.
        hints: values of a `Description` that follow from other metadata of the file.
        module: what moves to another device; None = the runtime computes on the CPU.
    """

    path: Path
    runtime: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Run
    notes: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)
    module: nn.Module | None = None

    @property
    def images(self) -> Port:
        """The input of images."""
        return self.inputs[0]

    @property
    def channels_last(self) -> bool:
        """Whether images are (N, H, W, 3)."""
        shape = self.images.shape
        return shape is not None and shape[1] != 3 and shape[3] == 3

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) of the images, None where the file accepts any or does not say."""
        shape = self.images.shape
        if shape is None:
            return None, None
        return (shape[1], shape[2]) if self.channels_last else (shape[2], shape[3])

    @property
    def batch(self) -> int | None:
        """The only accepted number of images, None = any."""
        return self.images.shape[0] if self.images.shape else None

    def check(self) -> None:
        """Raise UserError, naming what the file has, if it is no model from images, and perhaps cameras, to embeddings."""
        if not self.inputs or len(self.inputs) > 2:
            raise self.wrong(f"has {len(self.inputs)} inputs: {_listed(self.inputs)}", "images, or images and cameras")
        shape, dtype = self.images.shape, self.images.dtype
        if shape is not None and (len(shape) != 4 or 3 not in (shape[1], shape[3])):
            raise self.wrong(f"takes {self.images}", "N x 3 x height x width, or N x height x width x 3")
        if dtype and dtype not in IMAGE_TYPES:
            raise self.wrong(f"takes {self.images}", f"images in {' or '.join(IMAGE_TYPES)}")
        for port in self.inputs[1:]:
            if port.dtype and port.dtype not in CAMERA_TYPES:
                raise self.wrong(f"takes {port}", f"camera numbers in {' or '.join(CAMERA_TYPES)} as second input")

    def output(self, name: str) -> int:
        """Return the position of the embeddings among the outputs.

        Args:
            name: of the output, "" = the only one, or the only one of two dimensions.
        Raises:
            UserError: no such output, or several could be meant.
        """
        names = [port.name for port in self.outputs]
        if name:
            if name not in names:
                raise self.wrong(f"has no output {name!r}", f"output: one of {', '.join(names)}")
            return names.index(name)
        flat = [i for i, port in enumerate(self.outputs) if port.shape is None or len(port.shape) == 2]
        if len(flat) != 1:
            choice = ', or the name of one in its JSON file, {"output": "NAME"}' if flat else ""
            raise self.wrong(f"gives {_listed(self.outputs)}", f"one output N x D{choice}")
        return flat[0]

    def wrong(self, found: str, accepted: str) -> UserError:
        """Return the error of a file that is no embedder."""
        return UserError(f"{self.path} {found}; accepted: {accepted}; export it again, or choose another file")


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(map(str, ports)) or "none"
