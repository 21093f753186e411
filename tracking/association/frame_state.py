"""One frame while its boxes are given to tracks: who owns which box, and the embeddings computed so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from ...common.errors import UserError
from ..detections import Detections, VideoFrame
from .overlap import areas, hidden_shares

Embed = Callable[[np.ndarray], np.ndarray]  # rows of the detections -> (n, D) unit embeddings of their crops
_HIDDEN = 0.5  # share of a box covered by another, above which its crop may show the other person
_CUT_OFF = 0.25  # share of a box outside the frame, above which its crop shows too little


class FrameState:
    """The detections of a frame and the table rows of their tracks.

    Args:
        embed: computes embeddings of some rows; None = there are none.
    """

    def __init__(self, frame: VideoFrame, detections: Detections, embed: Embed | None) -> None:
        self.seconds = frame.seconds
        self.shape = frame.pixels.shape[:2]  # height, width; 0 = unknown
        self.boxes = detections.boxes.astype(np.float64)
        self.scores = detections.scores
        self.labels = np.array(detections.labels, np.str_)
        self.owners: np.ndarray = np.full(len(detections), -1)  # (N,) row of the table, -1 = none yet
        self.can_embed = embed is not None
        self._embed = embed
        self.is_clear: np.ndarray = np.ones(len(detections), bool)  # (N,) what `clear` returned for the predictions
        self._vectors: dict[int, np.ndarray] = {}

    def free(self, wanted: np.ndarray) -> np.ndarray:
        """Return the rows without a track yet, of those in the mask."""
        return np.flatnonzero(wanted & (self.owners < 0))

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings (n, D) float32 of some rows; each is computed once.

        Raises:
            UserError: `embed` returned another number of rows.
        """
        new = np.array([row for row in rows.tolist() if row not in self._vectors], np.int64)
        if len(new) and self._embed is not None:
            found = np.asarray(self._embed(new), np.float32)
            if found.ndim != 2 or len(found) != len(new):
                raise UserError(f"embed: returned {found.shape} for {len(new)} crops; expected ({len(new)}, D)")
            self._vectors.update(zip(new.tolist(), found))
        return np.stack([self._vectors[row] for row in rows.tolist()])

    def embedded(self, rows: np.ndarray) -> np.ndarray:
        """Return the mask (n,) of the rows whose embedding was computed already."""
        if not self._vectors:
            return np.zeros(len(rows), bool)
        return np.array([row in self._vectors for row in rows.tolist()], bool)

    def clear(self, predicted: np.ndarray) -> np.ndarray:
        """Return the mask (N,) of boxes whose crop shows the person of the box: neither hidden nor cut off by the border.

        Args:
            predicted: (M, 4) where tracks are expected, as the box of somebody in front may be missing.
        """
        hidden = hidden_shares(self.boxes, np.concatenate([self.boxes, predicted]))
        return (hidden <= _HIDDEN) & (self.cut_off <= _CUT_OFF)

    @cached_property
    def cut_off(self) -> np.ndarray:
        """The share (N,) of each box that lies outside the frame; 0 where the frame's size is unknown."""
        height, width = self.shape
        if not height:
            return np.zeros(len(self.boxes))
        inside = areas(np.clip(self.boxes, 0, [width, height, width, height]))
        return 1 - inside / np.maximum(areas(self.boxes), 1e-9)
