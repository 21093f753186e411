"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS, SSD and others, with weights from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models import detection

from ...common.errors import UserError, choose
from ...common.text import first_line
from ...model.weights.read import read_weights
from ...processor.device import autocast, pick_device
from ..detections import Detections
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish
from .transformers_detector import box_precision


def torchvision_names() -> list[str]:
    """Return the names of torchvision's detectors of boxes."""
    return [name for name in torchvision.models.list_models(module=detection) if not name.startswith("keypoint")]


class TorchvisionDetector(Detector):
    """A detector of torchvision with its COCO classes.

    Args:
        name: such as fasterrcnn_resnet50_fpn_v2.
        options: `weights` = the file with its state dict (.pth, .safetensors).
    Raises:
        UserError: no such model, no weights given, or they do not fit.
    """

    def __init__(self, name: str, options: DetectorOptions) -> None:
        choose("detector torchvision", name, dict.fromkeys(torchvision_names()))
        published = torchvision.models.get_model_weights(name).DEFAULT
        if options.weights is None:
            raise UserError(
                f"detector torchvision:{name}: needs the file with its weights; the published one is {Path(published.url).name}, "
                "from torchvision's page of models"
            )
        self.options, self.batch_size = options, options.batch_size
        self._device = pick_device(options.device)
        self._precision = box_precision(options.precision, self._device)
        categories = published.meta["categories"]
        self._classes = ClassFilter(
            [None if label in ("__background__", "N/A") else label for label in categories],
            options.classes,
            f"detector torchvision:{name}",
        )
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=len(categories))
        _fill(model, options.weights)
        self._model = model.eval().to(self._device)

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the boxes in each frame; all frames are one batch."""
        images = [self._tensor(frame) for frame in frames]
        with torch.inference_mode(), autocast(self._device, self._precision):
            found = self._model(images)
        results = []
        for one, frame in zip(found, frames):
            boxes, scores, labels = (one[key].float().cpu().numpy() for key in ("boxes", "scores", "labels"))
            raw = RawBoxes(boxes, scores, labels.astype(np.int64))
            results.append(finish(raw, self._classes, self.options, frame.shape[:2], suppress=False))
        return results

    def _tensor(self, frame: np.ndarray) -> torch.Tensor:
        """Return a frame as (3, H, W) RGB in 0-1."""
        rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).to(self._device)
        return rgb.permute(2, 0, 1).float() / 255


def _fill(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict; no code in the file is executed."""
    if not path.exists():
        raise FileNotFoundError(f"detector torchvision: there is no weight file {path}")
    state = read_weights(path).tensors
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{path}: these are not the weights of this detector ({first_line(error)}); give the file of the same name"
        ) from error
