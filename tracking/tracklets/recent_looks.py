"""Embeddings of boxes, each computed once for the same box in neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from ..association.overlap import box_iou
from ..detections import Detections, VideoFrame
from .crop_quality import cut

EmbedCrops = Callable[[Sequence[np.ndarray]], np.ndarray]  # crops (h, w, 3) uint8 RGB -> (n, D)
SECONDS, IOU = 0.2, 0.8  # a box that overlaps one of the last SECONDS by at least IOU shows the same


class RecentLooks:
    """Embeds boxes of a frame; where people hide each other, a tracker asks for the same boxes frame after frame.

    Args:
        embed: embeds crops.
    """

    def __init__(self, embed: EmbedCrops) -> None:
        self._embed = embed
        self._seconds = np.empty(0)
        self._boxes = np.empty((0, 4), np.float32)
        self._vectors = np.empty((0, 0), np.float32)

    def __call__(self, frame: VideoFrame, detections: Detections, rows: np.ndarray) -> np.ndarray:
        """Return the unit embeddings (n, D) of some rows (n,) of the detections."""
        self._keep((frame.seconds >= self._seconds) & (frame.seconds - self._seconds <= SECONDS))
        boxes = detections.boxes[rows]
        overlap = box_iou(boxes, self._boxes) if len(self._boxes) else np.zeros((len(boxes), 1))
        known, best = overlap.max(1) >= IOU, overlap.argmax(1)
        if not known.all():
            new = np.flatnonzero(~known)
            found = self._embed([_rgb(cut(frame.pixels, box)) for box in boxes[new]])
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
            best[new] = len(self._boxes) + np.arange(len(new))
            self._seconds = np.concatenate([self._seconds, np.full(len(new), frame.seconds)])
            self._boxes = np.concatenate([self._boxes, boxes[new]])
            self._vectors = np.concatenate([self._vectors.reshape(-1, found.shape[1]), found.astype(np.float32)])
        return self._vectors[best]

    def _keep(self, rows: np.ndarray) -> None:
        self._seconds, self._boxes, self._vectors = self._seconds[rows], self._boxes[rows], self._vectors[rows]

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later calls depend on, as arrays by name."""
        return {"looks_seconds": self._seconds, "looks_boxes": self._boxes, "looks_vectors": self._vectors}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        self._seconds, self._boxes, self._vectors = (
            np.array(state[f"looks_{name}"]) for name in ("seconds", "boxes", "vectors")
        )


def _rgb(crop: np.ndarray) -> np.ndarray:
    """Return a BGR crop as RGB; one black pixel for a box outside the frame."""
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) if crop.size else np.zeros((1, 1, 3), np.uint8)
