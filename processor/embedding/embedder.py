"""A weight file as a function from images to embeddings, and the fingerprint of all that its embeddings depend on."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from ...common.errors import UserError
from ...common.file_kinds import kind_of
from ...common.files import digest
from ...common.pictures import from_pil
from ...datasets import Preprocess, build_test_sets, name_rows, read_image
from ...datasets.loading.decode import resize
from ...labels.camera_names import UnknownNames
from ...labels.label_text import as_name
from ...model import (
    ModelSpec,
    ReidModel,
    attention_rollout,
    build_model,
    has_attention,
    is_deploy,
    load_deploy,
    load_weights,
)
from ..device import PRECISIONS, pick_device, pick_precision, place
from ..runs.checkpoint import NotACheckpointError, load_last
from ..scoring.thresholds import stored_calibration
from .extract import EmbedSettings, embed_images

logger = logging.getLogger(__name__)


class Embedder:
    """A trained model with its preprocessing, cameras and settings; may be called from several threads.

    Args:
        weights: best.safetensors or last.pth of a run.
        device: auto, cuda, mps or cpu.
        precision: auto, bf16, fp16 or fp32.
        batch_size: images per pass through the model, 1 or more.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file lacks its description, or an argument has another value.
    """

    def __init__(
        self, weights: str | Path, device: str = "auto", precision: str = "auto", batch_size: int = 256
    ) -> None:
        accepted = {"device": (device, ("auto", "cuda", "mps", "cpu")), "precision": (precision, ("auto", *PRECISIONS))}
        for what, (value, values) in accepted.items():
            if value not in values:
                raise UserError(f"{what}: unknown value {value!r}; choose from {', '.join(values)}")
        if batch_size < 1:
            raise UserError(f"batch_size: 1 or more images, got {batch_size}")
        self.weights, self.batch_size = weights_path(str(weights)), batch_size
        own = _read(self.weights)
        self.about = own.about
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.preprocess = Preprocess.from_dict(own.about["preprocess"])
        self.settings = EmbedSettings(**own.about["embed"])
        self.fingerprint = fingerprint_of(own.model, self.preprocess, self.settings)
        calibration = stored_calibration(own.about)
        self.threshold = calibration.threshold.to_dict() if calibration else None
        self._model: ReidModel = place(own.model, self.device, self.precision).eval()
        self._lock = threading.Lock()
        spec = own.model.spec
        self._cameras = UnknownNames("camera", spec.cameras if spec.sie_camera else ())
        self._views = UnknownNames("view", spec.views if spec.sie_view else ())

    @property
    def model(self) -> ReidModel:
        """The model, on its device, in evaluation mode."""
        return self._model

    @property
    def name(self) -> str:
        """Name of the model, and its differences from the standard model of that name."""
        return self._model.spec.title

    @property
    def dim(self) -> int:
        """D, the width of an embedding."""
        branches = 1 if self.settings.global_only else self._model.num_branches
        return branches * self._model.embed_dim

    @property
    def flip(self) -> bool:
        """Whether the embedding is averaged with that of the mirror image."""
        return self.settings.flip

    @property
    def neck(self) -> str:
        """Position of the embedding: "before" or "after" the BN-neck."""
        return self.settings.neck

    @property
    def info(self) -> Any:
        """The earlier name of `GalleryInfo.of(embedder)`; the gallery, a higher room, is imported when it is called."""
        return import_module("vitreid.gallery").GalleryInfo.of(self)

    @property
    def attention(self) -> Callable[[Any, str | None], np.ndarray] | None:
        """A function from image and camera to the share of each patch in the embedding, (h, w); None without attention."""
        return self._attention if has_attention(self._model) else None

    def _attention(self, image: Any, camera: str | None = None) -> np.ndarray:
        planes = torch.from_numpy(self.planes(image)[None]).to(self.device)
        self._cameras.warn([camera])
        camids = _rows([camera], self._model.spec.cameras).to(self.device)
        with self._lock:
            return attention_rollout(self._model, self.preprocess.normalise(planes), camids)[0].cpu().numpy()

    def __call__(self, images: Any, cameras: str | Sequence[str | None] | None = None) -> np.ndarray:
        """Return the embeddings of one image or of a list of them.

        Args:
            images: paths, PIL images, or (H, W, 3) uint8 RGB arrays, in any mixture.
            cameras: the camera's name for all images, or one name (or None) per image. A bare c1 finds market1501/c1 if it is the
                only one. None, and cameras that are unknown to the model, use the fallback row of its side information; a
                warning names the latter once.
        Returns:
            (N, D) float32; N = 1 for one image.
        Raises:
            FileNotFoundError, CorruptImageError: a path that cannot be read; names it.
            TypeError, ValueError: an input is no image, or the number of cameras differs from the number of images.
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
        """Return one image resized for the model, (3, H, W) uint8 RGB, not normalised."""
        pixels = resize(as_pixels(image), self.preprocess.size, self.preprocess.interpolation)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    @torch.inference_mode()
    def embed(
        self, planes: np.ndarray, cameras: Sequence[str | None], views: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return the (B, D) float32 embeddings of one batch.

        Args:
            planes: (B, 3, H, W) uint8 RGB at the model's size.
            cameras, views: B names; None and unknown names use the fallback row.
        """
        spec = self._model.spec
        self._cameras.warn(cameras)
        self._views.warn(views or ())
        rows = _rows(cameras, spec.cameras), _rows(views or [None] * len(planes), spec.views)
        with self._lock:
            images, camids, viewids = (part.to(self.device) for part in (torch.from_numpy(planes), *rows))
            images = self.preprocess.normalise(images)
            embeddings = embed_images(self._model, images, camids, viewids, self.settings, self.device, self.precision)
            return embeddings.numpy()


def _rows(names: Sequence[str | None], known: tuple[str, ...]) -> Tensor:
    """Return the row of each name in a side-information table; -1 = unknown."""
    return name_rows([name or "" for name in names], known)[:-1]


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
    """Return "sha256:…" of tensors, architecture, preprocessing and settings.

    Device and precision are excluded: they change an embedding by less than the distance to its neighbours.
    """

    def parts() -> Iterator[bytes | memoryview]:
        yield json.dumps([model.spec.identity(), preprocess.to_dict(), settings.to_dict()], sort_keys=True).encode()
        for name, value in sorted(model.state_dict().items()):
            yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
            yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

    return digest(parts())


def as_list(images: Any) -> list[Any]:
    """Return the images as a list; a path, a PIL image or a (H, W, 3) array is one image."""
    if isinstance(images, (str, os.PathLike)) or hasattr(images, "convert"):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [images]
    return list(images)


def _per_image(cameras: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    if cameras is None or isinstance(cameras, str):
        return [as_name(cameras)] * count
    if len(cameras) != count:
        raise UserError(
            f"cameras: {len(cameras)} names for {count} images; give one name per image, None where unknown"
        )
    return [as_name(camera) for camera in cameras]


def as_pixels(image: Any) -> np.ndarray:
    """Return a path, a PIL image or an array as (H, W, 3) uint8 RGB, upright as its EXIF data says.

    Raises:
        FileNotFoundError, CorruptImageError: the path cannot be read; names it.
        TypeError, ValueError: any other type, shape or dtype; names it.
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


@dataclass(frozen=True)
class Weights:
    """A model and the metadata in its file; `about` is empty for a file of the original TransReID."""

    model: ReidModel
    about: dict[str, Any]


def weights_path(weights: str) -> Path:
    """Return the path of a weight file.

    Raises:
        UserError: `weights` is empty, or a picture or text; FileNotFoundError: the file does not exist; IsADirectoryError: it is a folder.
    """
    if not weights:
        raise UserError(
            "no weights to test: give --weights RUN/best.safetensors, or --config_file and TEST.WEIGHT FILE"
        )
    path = Path(weights)
    if path.is_dir():
        raise IsADirectoryError(f"weights file {path} is a folder; it holds {_listing(path)}; name a file")
    if not path.is_file():
        hint = f"; the folder {path.parent} holds {_listing(path.parent)}" if path.parent.is_dir() else ""
        raise FileNotFoundError(f"weights file {path} does not exist{hint}")
    if kind := kind_of(path):
        raise UserError(f"weights file {path} is {kind}, not weights; give the best.safetensors or last.pth of a run")
    return path


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".pth"))
    return ", ".join(names) or "no .safetensors or .pth file"


def read_own(path: Path) -> Weights | None:
    """Return the weights in a file of vitreid, averaged if last.pth has such; None for a file of another project."""
    if path.suffix == ".safetensors":
        return Weights(*load_deploy(path)) if is_deploy(path) else None
    try:
        state = load_last(path)
    except NotACheckpointError:
        return None
    model = ReidModel(ModelSpec.from_dict(state["spec"]))
    module, averaged = state["trainer"]["module"], state["trainer"]["ema"]
    trained = {name.removeprefix("model."): value for name, value in module.items() if name.startswith("model.")}
    model.load_state_dict(averaged["model"] if averaged else trained)
    return Weights(model, state["about"])


def build_foreign(path: Path, cfg: CfgNode) -> Weights:
    """Load the weights of the original TransReID into the model of the config.

    The file lacks the names of its cameras and views: side information takes those of the first of DATASETS.NAMES.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.PRETRAIN_CHOICE, cfg.DATASETS.TEST, cfg.DATASETS.DISTRACTORS = "none", (), ""
    cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    if cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW:
        data = build_test_sets(cfg)[0]
        cameras, views = data.train_cameras or data.camera_names, data.train_views or data.view_names
    model = build_model(cfg, cameras, views)
    logger.info("%s", load_weights(model, path))
    return Weights(model, {})
