"""Frames -> the input tensor of a model file, and boxes back from its pixels to the frame's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ...common.errors import UserError

RESIZES = ("stretch", "letterbox", "letterbox-corner")
CHANNELS = ("rgb", "bgr")


class Placement(NamedTuple):
    """Where a frame lies in the input: x_input = x_frame * scale_x + left, likewise y."""

    scale_x: float
    scale_y: float
    left: float
    top: float

    def to_frame(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) of input pixels in pixels of the frame, float32."""
        shift = np.array([self.left, self.top] * 2)
        return ((boxes - shift) / np.array([self.scale_x, self.scale_y] * 2)).astype(np.float32)


@dataclass(frozen=True)
class FrameInput:
    """How frames become a model's input: resized, then (pixel * scale / 255 - mean) / std.

    Args:
        size: (height, width) in pixels.
        channels: rgb or bgr, the order of the three planes.
        scale: value of the brightest pixel before mean and std, 1 or 255.
        mean, std: one value per channel, in that order.
        resize: "stretch" to the size; "letterbox": keep the aspect ratio, the rest filled on both sides;
            "letterbox-corner": the same with the frame in the upper left corner.
        fill: grey level of the letterbox's rest, 0-255.
        last: channels last, (B, H, W, 3), rather than (B, 3, H, W).
        dtype: of the tensor.
    Raises:
        UserError: a value is unknown or out of range.
    """

    size: tuple[int, int]
    channels: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "stretch"
    fill: int = 114
    last: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise UserError(f"detector: resize {self.resize!r}; choose from {', '.join(RESIZES)}")
        if self.channels not in CHANNELS:
            raise UserError(f"detector: channels {self.channels!r}; choose from {', '.join(CHANNELS)}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0 or min(self.size) < 1:
            raise UserError(
                f"detector: size {self.size}, mean {self.mean}, std {self.std}; expected (height, width) in pixels and three "
                "values each, std above 0"
            )

    def batch(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Placement]]:
        """Return the tensor (B, 3, H, W), or (B, H, W, 3), of frames (h, w, 3) uint8 BGR, and where each frame lies in it."""
        tensor = np.empty((len(frames), 3, *self.size), np.float32)
        placements = []
        for planes, frame in zip(tensor, frames):
            resized, placement = self._resize(frame)
            order = (0, 1, 2) if self.channels == "bgr" else (2, 1, 0)
            cv2.split(resized.astype(np.float32), [planes[channel] for channel in order])
            placements.append(placement)
        self._normalise(tensor)
        if self.last:
            tensor = np.ascontiguousarray(tensor.transpose(0, 2, 3, 1))  # (B, 3, H, W) -> (B, H, W, 3)
        return tensor.astype(self.dtype, copy=False), placements

    def _normalise(self, tensor: np.ndarray) -> None:
        """Scale in place, in one multiplication and one subtraction per channel where needed."""
        for channel, (mean, std) in enumerate(zip(self.mean, self.std)):
            plane = tensor[:, channel]
            if (factor := self.scale / 255 / std) != 1:
                plane *= np.float32(factor)
            if mean:
                plane -= np.float32(mean / std)

    def _resize(self, frame: np.ndarray) -> tuple[np.ndarray, Placement]:
        (height, width), (rows, columns) = self.size, frame.shape[:2]
        if self.resize == "stretch":
            return cv2.resize(frame, (width, height)), Placement(width / columns, height / rows, 0, 0)
        factor = min(height / rows, width / columns)
        inner = (max(1, round(rows * factor)), max(1, round(columns * factor)))
        centred = self.resize == "letterbox"
        top, left = ((outer - own) // 2 if centred else 0 for outer, own in zip(self.size, inner))
        canvas = np.full((height, width, 3), self.fill, np.uint8)
        canvas[top : top + inner[0], left : left + inner[1]] = cv2.resize(frame, inner[::-1])
        return canvas, Placement(inner[1] / columns, inner[0] / rows, left, top)
