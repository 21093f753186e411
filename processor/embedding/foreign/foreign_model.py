"""A model file of another runtime as an embedder's model: order of channels, batches, cameras, and checks of what it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....common.files import digest
from ....common.inputs.regular_files import read_chunks
from ....common.text import first_line
from ..extract import EmbedSettings
from .description import BGR, Description
from .model_file import ModelFile
from .runtimes import RUNTIMES

PROBE = 2  # images embedded once at the start, to see what the file gives


class ForeignModel(nn.Module):
    """Has the members of `EmbeddingModel`.

    Args:
        file: the opened file, which is tried with two images of noise.
        description: what it expects.
    Raises:
        UserError: its inputs or outputs are not those of an embedder, or it fails; says what was found.
    """

    views: tuple[str, ...] = ()
    precisions = ("fp32",)
    network = None

    def __init__(self, file: ModelFile, description: Description) -> None:
        super().__init__()
        file.check()
        self.file, self.description = file, description
        self.module = file.module  # a submodule: moves with this one
        self.batch = file.batch or description.batch or None
        self.output = file.output(description.output)
        self.mirrors_inside = bool(file.notes)
        self.dim = self._probe()

    @property
    def title(self) -> str:
        """The readable name."""
        return self.description.name or self.file.path.name

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that the file knows."""
        return self.description.cameras

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that the runtime uses."""
        return ("cpu",) if self.module is None else ("cuda", "mps", "cpu")

    def width(self, global_only: bool = False) -> int:
        """Return D."""
        return self.dim

    def settle(self, asked: EmbedSettings) -> EmbedSettings:
        """Return the settings in a file of ours; else those asked for, but a file has one feature, before the neck."""
        if self.file.notes:
            return EmbedSettings(**self.file.notes["embed"])
        return EmbedSettings(normalize=asked.normalize, flip=asked.flip)

    def fingerprint(self, preprocess: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
        """Return that of the checkpoint for a file of ours, else that of the file's bytes and its use."""
        if self.file.notes:
            return self.file.notes["fingerprint"]
        about = self.description
        use = {
            "channels": about.channels,
            "cameras": about.cameras,
            "unknown": about.unknown_camera,
            "output": self.output,
        }
        head = json.dumps([use, preprocess, settings], sort_keys=True).encode()
        return digest(part for parts in ([head], *map(read_chunks, _files(self.file.path))) for part in parts)

    @torch.inference_mode()
    def embed(
        self,
        images: Tensor,
        camids: Tensor | None = None,
        viewids: Tensor | None = None,
        neck: str = "before",
        global_only: bool = False,
    ) -> Tensor:
        """Return the embeddings (B, D), in batches of the size that the file accepts, on the images' device."""
        inputs = self.inputs(images, camids)
        size = self.batch or len(images)
        starts = range(0, len(images), size)
        blocks = [self._run([tensor[start : start + size] for tensor in inputs], size) for start in starts]
        return torch.cat(blocks).to(images.device)

    def inputs(self, images: Tensor, camids: Tensor | None) -> list[Tensor]:
        """Return what the file takes for normalised RGB images (B, 3, H, W): images, and cameras if it knows some."""
        pixels = self._pixels(images)
        return [pixels, self._numbers(camids, len(images)).to(images.device)] if self.cameras else [pixels]

    def _pixels(self, images: Tensor) -> Tensor:
        """Return normalised RGB images (B, 3, H, W) in the file's order of channels, layout and type."""
        if self.description.channels == BGR:
            images = images.flip(1)
        if self.file.images.dtype == "uint8":
            images = images.round().to(torch.uint8)
        return (images.permute(0, 2, 3, 1) if self.file.channels_last else images).contiguous()

    def _numbers(self, camids: Tensor | None, count: int) -> Tensor:
        """Return the camera number (B,) of each image."""
        camids = torch.full((count,), -1) if camids is None else camids.cpu()
        unknown = self.description.unknown_camera
        if unknown is None and (camids < 0).any():
            raise self.file.wrong(
                f"knows the cameras {', '.join(self.cameras)}, and an image is from another one",
                'these cameras, or a number for all others in its JSON file, {"unknown_camera": 0}',
            )
        numbers = camids if unknown is None else torch.where(camids < 0, unknown, camids)
        return numbers.to(torch.int32 if self.file.inputs[1].dtype == "int32" else torch.int64)

    def _run(self, inputs: list[Tensor], size: int) -> Tensor:
        """Return the embeddings (b, D) of up to `size` images; the last image fills up the batch."""
        count = len(inputs[0])
        if count < size:
            inputs = [torch.cat([tensor, tensor[-1:].expand(size - count, *tensor.shape[1:])]) for tensor in inputs]
        return self._checked(self.file.run(*inputs), size)[:count]

    def _checked(self, results: list[Tensor], count: int) -> Tensor:
        found = results[self.output] if self.output < len(results) else torch.empty(0)
        if found.ndim != 2 or len(found) != count or found.shape[1] < 1:
            raise self.file.wrong(f"gives {tuple(found.shape)} for {count} images", f"({count}, D), a row per image")
        if found.dtype is not torch.float32:
            raise self.file.wrong(f"gives {str(found.dtype).removeprefix('torch.')}", "float32 embeddings")
        return found

    def _probe(self) -> int:
        """Embed two images of noise; return D."""
        noise = torch.rand(PROBE, 3, *self.description.size, generator=torch.Generator().manual_seed(0))
        images = self.description.preprocess.normalise((noise * 255).round())
        rows = torch.zeros(PROBE, dtype=torch.int64)
        try:
            found = self.embed(images, rows)
        except (MemoryError, ValueError):
            raise
        except Exception as error:  # each runtime raises other kinds
            size = " x ".join(map(str, self.description.size))
            raise self.file.wrong(
                f"does not run with {self.batch or PROBE} images of {size} pixels ({first_line(error)[:200]})",
                "its size (--embedder-size HEIGHTxWIDTH) and, for a file with a fixed one, the batch",
            ) from error
        if not torch.isfinite(found).all():
            suffix, own = self.file.path.suffix, self.file.runtime
            others = [name for name, runtime in RUNTIMES.items() if suffix in runtime.suffixes and name != own]
            advice = f" (runtimes differ in some operators: try --embedder-runtime {others[0]})" if others else ""
            raise self.file.wrong(
                f"gives NaN or infinite values for images of noise in {self.file.runtime}", f"finite values{advice}"
            )
        return found.shape[1]


def _files(path: Path) -> list[Path]:
    """Return the file, with OpenVINO also its .bin."""
    weights = path.with_suffix(".bin")
    return [path, weights] if path.suffix == ".xml" and weights.is_file() else [path]
