"""A model file as a function from images to embeddings, with the fingerprint of all that its embeddings depend on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError
from ...common.forked_processes import watch_forks
from ...common.pictures import from_pil
from ...datasets import Preprocess, name_rows, read_image
from ...datasets.loading.decode import resize
from ...labels.camera_names import UnknownNames
from ...labels.label_text import as_name
from ...model import attention_rollout, has_attention
from ..device import PRECISIONS, pick_device, pick_precision, place, with_cast_weights
from ..publishing.hub_upload import upload
from ..publishing.saved_folder import save_folder
from ..scoring.thresholds import processed_thresholds, stored_calibration
from ..thread_shares import compute_alone
from .backends import open_backend
from .embedding_model import EmbeddingModel
from .extract import EmbedSettings, embed_images
from .other_processes import Origin, absolute_json, in_fork, reopened
from .weight_files import Weights, read_described, weights_path


class Embedder:
    """A trained model with its preprocessing, cameras and settings; may be called from several threads.

    Another process opens the file anew: a pickled embedder is its file and its arguments. A child of `fork` computes on the CPU
    with one thread.

    Args:
        weights: best.safetensors or last.pth of a run; or a finished model: .onnx, .xml (OpenVINO) or a TorchScript archive.
        device: auto, cuda, mps or cpu.
        precision: auto, bf16, fp16 or fp32.
        batch_size: images per pass through the model, 1 or more.
        options: what a finished model expects, if neither the file nor the JSON file next to it says so: the keys of
            `Description`, e.g. {"input": "bgr255", "size": (256, 128)}.
        backend: torch, onnx or openvino; auto = the fastest that agrees, measured for a few seconds; None = as the file is: torch
            for weights, its usual runtime for a finished model. `backend` and `chosen` say what was taken, and why.
    Raises:
        FileNotFoundError: no such file.
        MissingPackageError: the runtime of the file is not installed.
        ValueError: the file lacks its description, or an argument has another value.
    """

    def __init__(
        self,
        weights: str | Path,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 256,
        options: Mapping[str, Any] | None = None,
        backend: str | None = None,
    ) -> None:
        accepted = {"device": (device, ("auto", "cuda", "mps", "cpu")), "precision": (precision, ("auto", *PRECISIONS))}
        for what, (value, values) in accepted.items():
            if value not in values:
                raise UserError(f"{what}: unknown value {value!r}; choose from {', '.join(values)}")
        if batch_size < 1:
            raise UserError(f"batch_size: 1 or more images, got {batch_size}")
        self.weights, self.batch_size = weights_path(str(weights)), batch_size
        own, self.backend, self.chosen = open_backend(self.weights, options, _read, backend, device, precision)
        given = absolute_json(options), self.backend if backend else None
        self._origin = Origin(str(weights), self.weights.absolute(), device, precision, *given)
        self.about = own.about
        self.device = pick_device(device, own.model.devices, "device")
        self.precision = pick_precision(precision, self.device, own.model.precisions, "precision")
        self.preprocess = Preprocess.from_dict(own.about["preprocess"])
        self.settings = EmbedSettings(**own.about["embed"])
        self.fingerprint = fingerprint_of(own.model, self.preprocess, self.settings)
        calibration = stored_calibration(own.about)
        self.threshold = calibration.limit if calibration else None
        self.thresholds = processed_thresholds(own.about)
        self._model = place(own.model, self.device, self.precision).eval()
        self._computing: Any = None  # made of `_model` with the first images
        self._lock, self._is_forked, self._is_stale = threading.Lock(), False, False
        self._of_parent: EmbeddingModel | None = None
        watch_forks(self)
        self._cameras, self._views = UnknownNames("camera", own.model.cameras), UnknownNames("view", own.model.views)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the embedder anew; a changed `batch_size` or threshold comes along."""
        changed = {key: getattr(self, key) for key in ("batch_size", "threshold", "thresholds")}
        return reopened, (type(self), self._origin, self.fingerprint, changed)

    def after_fork(self) -> None:
        """Replace the lock in a child of `fork`; the model follows with its first images there."""
        self._lock, self._is_forked, self._is_stale = threading.Lock(), True, True

    def _ready(self) -> None:
        """Make the model compute in a child of `fork`; within the lock.

        Raises:
            UserError: it is on a GPU, which a child of `fork` cannot use.
        """
        if not self._is_forked:
            return
        if self.device.type != "cpu":
            raise UserError(in_fork(self.device.type))
        torch.set_num_threads(1)  # each time, as it holds for the calling thread; others are missing here
        if self._model.network is None and self._is_stale:  # another runtime has its own threads
            own = _read(self.weights, self._origin.options)
            self._of_parent = self._model  # never freed here: that would wait for the threads of the parent
            self._model, self._computing = place(own.model, self.device, self.precision).eval(), None
        self._is_stale = False

    def save_pretrained(self, folder: str | Path, licence: str = "") -> Path:
        """Write the model as a folder (model.safetensors, config.json, README.md) and return it; see `save_folder`."""
        return save_folder(self._stored(), folder, "", licence)

    def push_to_hub(
        self, name: str, private: bool = True, token: str | None = None, licence: str = "", message: str = ""
    ) -> str:
        """Upload the model to the Hugging Face hub as `owner/model` and return its address; see `upload`."""
        return upload(self._stored(), name, private, token, licence, message)

    def _stored(self) -> Weights:
        """Return the model as its file has it, in full precision."""
        return _read(self.weights, None)

    @property
    def model(self) -> Any:
        """The model, an `EmbeddingModel`, on its device, in evaluation mode.

        Open a new embedder for other weights: changes made here may not reach the embeddings.
        """
        return self._model

    @property
    def name(self) -> str:
        """Name of the model, and its differences from the standard model of that name."""
        return self._model.title

    @property
    def dim(self) -> int:
        """D, the width of an embedding."""
        return self._model.width(self.settings.global_only)

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

    def same_person(self, a: Any, b: Any, cameras: Sequence[str | None] = (None, None)) -> Any:
        """Compare two images by the threshold of the model; `Gallery.same_person` without a gallery.

        Args:
            a, b: an image each, as for a call.
            cameras: of a and of b.
        Returns:
            The `Verdict`: answer "same", "different", or "unknown" for a model without a threshold, and the distance.
        """
        verdicts = import_module("vitreid.gallery.search.search_result")  # a higher room, imported when it is called
        left, right = (self(image, [camera]) for image, camera in zip((a, b), cameras, strict=True))
        return verdicts.compare(left, right, self.info)

    @property
    def attention(self) -> Callable[[Any, str | None], np.ndarray] | None:
        """A function from image and camera to the share of each patch in the embedding, (h, w); None without attention."""
        network = self._model.network
        return self._attention if network is not None and has_attention(network) else None

    def _attention(self, image: Any, camera: str | None = None) -> np.ndarray:
        planes = torch.from_numpy(self.planes(image)[None]).to(self.device)
        self._cameras.warn([camera])
        camids = _rows([camera], self._model.cameras).to(self.device)
        with self._lock:
            self._ready()
            return attention_rollout(self._model.network, self.preprocess.normalise(planes), camids)[0].cpu().numpy()

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
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # starts no thread before it is used
            for start in range(0, len(listed), self.batch_size):
                part = slice(start, start + self.batch_size)
                convert = map if all(map(self._has_size, listed[part])) else pool.map
                blocks.append(self.embed(np.stack(list(convert(self.planes, listed[part]))), names[part]))
        return np.concatenate(blocks)

    def _has_size(self, image: Any) -> bool:
        return isinstance(image, np.ndarray) and image.shape[:2] == tuple(self.preprocess.size)

    @staticmethod
    def compute_alone() -> None:
        """Let the operations of PyTorch in the calling thread use no other thread, next to batches that use all."""
        compute_alone()

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
        self._cameras.warn(cameras)
        self._views.warn(views or ())
        rows = _rows(cameras, self._model.cameras), _rows(views or [None] * len(planes), self._model.views)
        with self._lock:
            self._ready()
            images, camids, viewids = (part.to(self.device) for part in (torch.from_numpy(planes), *rows))
            images = self.preprocess.normalise(images)
            if self._computing is None:
                self._computing = with_cast_weights(self._model, self.device, self.precision)
            settings, device, precision = self.settings, self.device, self.precision
            embeddings = embed_images(self._computing, images, camids, viewids, settings, device, precision)
            return embeddings.numpy()


def from_pretrained(source: str | Path, **options: Any) -> Embedder:
    """Return the embedder of a model by name.

    Args:
        source: `hf-hub:owner/model` (with `@revision` behind it, if need be), a folder of `Embedder.save_pretrained`, or a file.
        options: of `Embedder`.
    Raises:
        ConnectionError: not in the hub's cache, and the hub does not answer; and what `Embedder` raises.
    """
    return Embedder(source, **options)


def _rows(names: Sequence[str | None], known: Sequence[str]) -> Tensor:
    """Return the row of each name in a side-information table; -1 = unknown."""
    return name_rows([name or "" for name in names], known)[:-1]


def _read(path: Path, options: Mapping[str, Any] | None) -> Weights:
    own = read_described(path, options)
    missing = [key for key in ("preprocess", "embed") if own is None or key not in own.about]
    if own is None or missing:
        raise UserError(
            f"{path} does not say how images are prepared for it ({', '.join(missing)}), so it cannot embed on its own; "
            "give the best.safetensors or last.pth of a run of vitreid, or a finished model (.onnx, .xml, TorchScript), or convert "
            f"it first: vitreid convert {path} OUT.safetensors"
        )
    return own


def fingerprint_of(model: EmbeddingModel, preprocess: Preprocess, settings: EmbedSettings) -> str:
    """Return "sha256:…" of tensors, architecture, preprocessing and settings.

    Device and precision are excluded: they change an embedding by less than the distance to its neighbours.
    """
    return model.fingerprint(preprocess.to_dict(), settings.to_dict())


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
