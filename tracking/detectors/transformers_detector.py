"""Detectors of the DETR family through transformers: DETR, Conditional and Deformable DETR, RT-DETR, RT-DETRv2, D-FINE."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from ...common.errors import UserError
from ...common.text import first_line
from ...processor.device import autocast, pick_device, pick_precision
from ..detections import Detections
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish, missing_video_package

CONNECT_SECONDS = 5.0  # for the question whether there is a network at all


class TransformersDetector(Detector):
    """A model of `AutoModelForObjectDetection` with its image processor.

    Args:
        name: a folder with config.json, weights and preprocessor_config.json, or the model's name on the hub, owner/model. A
            model that was downloaded before needs no network.
    Raises:
        MissingPackageError: transformers is not installed.
        UserError: the model is neither here nor on the hub, or is no detector.
    """

    def __init__(self, name: str, options: DetectorOptions) -> None:
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise missing_video_package("a DETR detector", error.name) from error
        self.options, self.batch_size = options, options.batch_size
        self._device = pick_device(options.device)
        self._precision = box_precision(options.precision, self._device)
        with _quiet(transformers):
            self._processor = _load(transformers.AutoImageProcessor, name)
            model = _load(transformers.AutoModelForObjectDetection, name)
        if not hasattr(self._processor, "post_process_object_detection"):
            raise UserError(f"{name}: its image processor has no boxes; give a detector of the DETR family")
        self._model = model.eval().to(self._device)
        labels = {int(number): str(label) for number, label in model.config.id2label.items()}
        self._classes = ClassFilter(
            [labels.get(number) for number in range(max(labels) + 1)], options.classes, f"detector {name}"
        )

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the boxes in each frame; all frames are one batch."""
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]  # BGR -> RGB
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        with torch.inference_mode(), autocast(self._device, self._precision):
            outputs = self._model(**inputs)
        sizes = [frame.shape[:2] for frame in frames]
        _to_float32(outputs)
        found = self._processor.post_process_object_detection(
            outputs, threshold=self.options.confidence, target_sizes=sizes
        )
        return [finish(_raw(one), self._classes, self.options, size, suppress=False) for one, size in zip(found, sizes)]


def box_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called `name`; "auto" takes fp16 on cuda, else fp32.

    bf16 has 8 bits: the coordinates 0.5 to 1 of a frame of 1920 pixels are then 7.5 pixels apart, in fp16 one pixel.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return pick_precision(name, device)


def _raw(found: dict[str, torch.Tensor]) -> RawBoxes:
    boxes, scores, labels = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
    return RawBoxes(boxes.astype(np.float32).reshape(-1, 4), scores.astype(np.float32), labels.astype(np.int64))


def _to_float32(outputs: Any) -> None:
    for key in ("logits", "pred_boxes"):
        outputs[key] = outputs[key].float()


def _load(kind: Any, name: str) -> Any:
    """Return what `kind` loads: from the folder or the cache, else, where there is a network, from the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _loaded(
            kind, str(folder), "the folder needs config.json, preprocessor_config.json and model.safetensors"
        )
    try:
        return kind.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):
        check_network(name)
    return _loaded(kind, name, "check the name on the hub; a private model needs a login")


def _loaded(kind: Any, name: str, hint: str) -> Any:
    try:
        return kind.from_pretrained(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"detector {name}: transformers cannot load it ({first_line(error)}); {hint}") from error


def check_network(name: str) -> None:
    """Raise UserError at once if the hub cannot be reached; its own client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UserError(f"detector {name}: is not in the cache, and HF_HUB_OFFLINE is set; {_OFFLINE}")
    if urllib.request.getproxies():  # then this machine need not know the hub's address
        return
    place = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((place.hostname, place.port or 443), CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"detector {name}: is neither a folder nor in the cache, and {place.hostname} cannot be reached ({error}); {_OFFLINE}"
        ) from error


_OFFLINE = "copy the model's folder from a machine with a network, give a model file, or use the detector motion"


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Hide the progress bars of loading."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
