"""RF-DETR (Robinson et al., arXiv:2511.09554) through the package `rfdetr`, in its Apache-2.0 sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...common.errors import UserError, choose
from ...common.text import first_line
from ...processor.device import pick_device
from ..detections import Detections
from .detector import ClassFilter, Detector, DetectorOptions, RawBoxes, finish, missing_video_package

SIZES = {size: f"RFDETR{size.capitalize()}" for size in ("nano", "small", "medium", "large")}


class RfDetrDetector(Detector):
    """RF-DETR of one size.

    Args:
        size: nano, small, medium or large.
        options: `weights` = a checkpoint; None = the published one, downloaded by the package unless it is in its cache.
    Raises:
        MissingPackageError: rfdetr is not installed.
        UserError: the size is unknown, or its weights are neither here nor to be had.
    """

    def __init__(self, size: str, options: DetectorOptions) -> None:
        kind = choose("detector rfdetr", size or "nano", SIZES)
        try:
            import rfdetr
        except ModuleNotFoundError as error:
            raise missing_video_package("detector rfdetr", error.name, "rfdetr") from error
        self.options, self.batch_size = options, options.batch_size
        values = {} if options.weights is None else {"pretrain_weights": str(_existing(options))}
        try:
            self._model = getattr(rfdetr, kind)(device=str(pick_device(options.device)), **values)
        except OSError as error:
            raise UserError(
                f"detector rfdetr:{size}: its weights cannot be downloaded ({first_line(error)}); give a checkpoint of it as the "
                "detector's weights"
            ) from error
        self._classes = ClassFilter(list(self._model.class_names), options.classes, f"detector rfdetr:{size}")

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the boxes in each frame; all frames are one batch."""
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]  # BGR -> RGB
        found = self._model.predict(images, threshold=self.options.confidence, include_source_image=False)
        names = {str(name): number for number, name in enumerate(self._model.class_names)}
        results = []
        for one, frame in zip(found if isinstance(found, list) else [found], frames):
            numbers = np.array([names.get(str(name), -1) for name in one.data["class_name"]], np.int64)
            raw = RawBoxes(one.xyxy.astype(np.float32), one.confidence.astype(np.float32), numbers)
            results.append(finish(raw, self._classes, self.options, frame.shape[:2], suppress=False))
        return results


def _existing(options: DetectorOptions) -> str:
    assert options.weights is not None  # for the type checker
    if not options.weights.is_file():
        raise FileNotFoundError(f"detector rfdetr: there is no weight file {options.weights}")
    return str(options.weights)
