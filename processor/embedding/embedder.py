"""A checkpoint as a function: images in, embeddings out; and the fingerprint that keeps embeddings of two models apart."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ...common.errors import UserError
from ...common.pictures import from_pil
from ...datasets import Batch, Preprocess, name_rows, read_image
from ...datasets.loading.decode import resize
from ...model import ReidModel, attention_rollout, has_attention
from ..device import PRECISIONS, pick_device, pick_precision, place
from ..scoring.thresholds import Calibration
from .extract import EmbedSettings, embed_batch
from .weight_file import Weights, read_own, weights_path

if TYPE_CHECKING:
    from ...gallery import GalleryInfo

logger = logging.getLogger(__name__)


class Embedder:
    """A trained model with its own preprocessing, cameras and settings; safe to call from several threads.

    Args:
        weights: best.safetensors or last.pth of a run.
        device: auto, cuda, mps or cpu.
        precision: auto, bf16, fp16 or fp32.
        batch_size: images per pass through the model, 1 or more.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not carry its own description, or an argument is none of those above.
    """

    def __init__(
        self, weights: str | Path, device: str = "auto", precision: str = "auto", batch_size: int = 256
    ) -> None:
        _check("device", device, ("auto", "cuda", "mps", "cpu"))
        _check("precision", precision, ("auto", *PRECISIONS))
        if batch_size < 1:
            raise UserError(f"batch_size: 1 or more images, got {batch_size}")
        self.weights, self.batch_size = weights_path(str(weights), None), batch_size
        own = _read(self.weights)
        self.about = own.about
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.preprocess = Preprocess.from_dict(own.about["preprocess"])
        self.settings = EmbedSettings(**own.about["embed"])
        self.fingerprint = fingerprint_of(own.model, self.preprocess, self.settings)
        self.threshold = _threshold(own.about)
        self._model: ReidModel = place(own.model, self.device, self.precision).eval()
        self._rows = {side: _Rows(getattr(own.model.spec, side)) for side in ("cameras", "views")}
        self._lock = threading.Lock()

    @property
    def model(self) -> ReidModel:
        """The model, on its device, in evaluation mode."""
        return self._model

    @property
    def name(self) -> str:
        """Name of the model, and in what it differs from the one of that name."""
        return self._model.spec.title

    @property
    def dim(self) -> int:
        """D, the width of an embedding."""
        branches = 1 if self.settings.global_only else self._model.num_branches
        return branches * self._model.embed_dim

    @property
    def flip(self) -> bool:
        """Whether the mirror image is averaged in."""
        return self.settings.flip

    @property
    def neck(self) -> str:
        """Where the embedding is taken: "before" or "after" the BN-neck."""
        return self.settings.neck

    @property
    def info(self) -> GalleryInfo:
        """What a new gallery of this model's float32 embeddings is: `Gallery.create(folder, embedder.info)`."""
        from ...gallery import GalleryInfo

        return GalleryInfo(
            model=self.fingerprint,
            dimension=self.dim,
            metric=self.threshold["metric"] if self.threshold else "euclidean",
            preprocess=self.preprocess.to_dict(),
            embed=self.settings.to_dict(),
            threshold=self.threshold,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            version=__version__,
            model_name=self.name,
        )

    @property
    def attention(self) -> Callable[[Any, str | None], np.ndarray] | None:
        """A function: image, camera -> (h, w) shares of the patches in the embedding; None if the model has no attention."""
        return self._attention if has_attention(self._model) else None

    def _attention(self, image: Any, camera: str | None = None) -> np.ndarray:
        planes = torch.from_numpy(self.planes(image)[None]).to(self.device)
        camids = self._rows["cameras"]([camera]).to(self.device)
        with self._lock:
            return attention_rollout(self._model, self.preprocess.normalise(planes), camids)[0].cpu().numpy()

    def __call__(self, images: Any, cameras: str | Sequence[str | None] | None = None) -> np.ndarray:
        """Return the embeddings of one image or of a list of them.

        Args:
            images: paths, PIL images, or (H, W, 3) uint8 RGB arrays, mixed as you like.
            cameras: the camera's name for all images, or one name (or None) per image; a camera that the model was not
                trained on, and None, use the fallback row of its side information.
        Returns:
            (N, D) float32; N = 1 for one image.
        Raises:
            FileNotFoundError, CorruptImageError: a path that cannot be read; names it.
            TypeError, ValueError: something that is no image, or another number of cameras than images.
        """
        listed = as_list(images)
        names = _per_image(cameras, len(listed))
        blocks = [np.empty((0, self.dim), np.float32)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(listed), self.batch_size):
                part = slice(start, start + self.batch_size)
                planes = np.stack(list(pool.map(self.planes, listed[part])))
                blocks.append(self.embed(planes, names[part]))
        return np.concatenate(blocks)

    def planes(self, image: Any) -> np.ndarray:
        """Return one image as the model's input before normalisation, (3, H, W) uint8 RGB."""
        pixels = resize(as_pixels(image), self.preprocess.size, self.preprocess.interpolation)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    @torch.inference_mode()
    def embed(
        self, planes: np.ndarray, cameras: Sequence[str | None], views: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return the (B, D) float32 embeddings of one batch.

        Args:
            planes: (B, 3, H, W) uint8 RGB at the model's size.
            cameras, views: B names; None and names that the model does not know use the fallback row.
        """
        where = torch.arange(len(planes))
        camids = self._rows["cameras"](cameras)
        viewids = self._rows["views"](views or [None] * len(planes))
        batch = Batch(torch.from_numpy(planes), torch.full_like(where, -1), camids, viewids, where)
        with self._lock:
            batch = batch.to(self.device)
            batch.images = self.preprocess.normalise(batch.images)
            return embed_batch(self._model, batch, self.settings, self.device, self.precision).numpy()


class _Rows:
    """Names -> rows of a side-information table; -1 = unknown."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def __call__(self, names: Sequence[str | None]) -> Tensor:
        return name_rows([name or "" for name in names], self._names)[:-1]


def _check(what: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise UserError(f"{what}: unknown value {value!r}; choose from {', '.join(accepted)}")


def _read(path: Path) -> Weights:
    own = read_own(path)
    missing = [key for key in ("preprocess", "embed") if own is None or key not in own.about]
    if own is None or missing:
        raise UserError(
            f"{path} does not say how images are prepared for it ({', '.join(missing)}), so it cannot embed on its own; "
            "give the best.safetensors or last.pth of a run of vitreid"
        )
    return own


def fingerprint_of(model: ReidModel, preprocess: Preprocess, settings: EmbedSettings) -> str:
    """Return "sha256:…" of everything that an embedding depends on: tensors, architecture, preprocessing, settings.

    Device and precision are left out: they move an embedding by less than its neighbours are apart.
    """
    digest = hashlib.sha256()
    about = [model.spec.identity(), preprocess.to_dict(), settings.to_dict()]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def _threshold(about: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checkpoint's threshold as `Threshold.to_dict` gives it; None, with the reason in the log, if it has none."""
    if not about.get("threshold"):
        return None
    try:
        calibration = Calibration.from_dict(about["threshold"])
    except ValueError as error:
        logger.warning("the checkpoint's threshold is left aside: %s", error)
        return None
    if calibration.embed and calibration.embed != about["embed"]:
        logger.warning(
            "the checkpoint's threshold is left aside: it is for the embeddings %s, these are %s",
            calibration.embed,
            about["embed"],
        )
        return None
    return calibration.threshold.to_dict()


def as_list(images: Any) -> list[Any]:
    """Return the images as a list; a path, a PIL image or a (H, W, 3) array is one image."""
    if isinstance(images, (str, os.PathLike)) or hasattr(images, "convert"):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [images]
    return list(images)


def _per_image(cameras: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    if cameras is None or isinstance(cameras, str):
        return [cameras] * count
    if len(cameras) != count:
        raise UserError(
            f"cameras: {len(cameras)} names for {count} images; give one name per image, None where unknown"
        )
    return list(cameras)


def as_pixels(image: Any) -> np.ndarray:
    """Return a path, a PIL image or an array as (H, W, 3) uint8 RGB, upright as its EXIF data says.

    Raises:
        FileNotFoundError, CorruptImageError: the path cannot be read; names it.
        TypeError, ValueError: it is none of the three; says what it is.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if hasattr(image, "convert"):
        return from_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a path, a PIL image or an array, got a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"an array of an image is (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image
