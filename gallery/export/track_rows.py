"""Tracklets -> rows of a gallery: embeddings, records and thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.pictures import blurred, encode
from ...processor.embedding.embedder import Embedder
from ...tracking.frames.live_stream import without_password
from ...tracking.recordings import Recording
from ...tracking.tracklets.best_crops import TrackCrop
from ...tracking.tracklets.tracklet import Tracklet
from ..maintenance.tracklets import diverse, pool
from ..storage.file_names import TRACK_CROPS
from .work_folder import ExportPart

TRACK_COLUMNS: dict[str, type] = {  # of a track's record, in addition to those of every record
    "end_time": float,
    "duration": float,
    "time_zone": str,
    "video": str,
    "label": str,
    "frame": int,
    "first_frame": int,
    "last_frame": int,
    "x": float,
    "y": float,
    "width": float,
    "height": float,
    "num_images": int,
    "confidence": float,
    "quality": float,
    "size": float,
    "sharpness": float,
    "inside": float,
    "visible": float,
}
SUFFIX = ".jpg"
LEAST_WEIGHT = 1e-6  # of a crop in a mean, so that a track of hidden crops has one


@dataclass(frozen=True)
class RowOptions:
    """What becomes of a tracklet.

    Args:
        templates: 0 = one row with the mean of the crops; k = up to k rows, the crops that differ most.
        thumbnails: keep the crops as image files; otherwise a row names its video, frame and box.
        blur: keep them blurred; the embeddings are those of the sharp crops.
        dtype: of the embeddings, float32 or float16.
    Raises:
        UserError: `templates` is negative.
    """

    templates: int = 0
    thumbnails: bool = True
    dtype: str = "float32"
    blur: bool = False

    def __post_init__(self) -> None:
        if self.templates < 0:
            raise UserError(f"--templates: {self.templates}; give the most rows of a track, 1 or more")
        if self.blur and not self.thumbnails:
            raise UserError("--blur-crops, --no-crops: without crops there is nothing to blur; give one of them")


@dataclass(frozen=True, eq=False)
class TrackPart(ExportPart):
    """Consecutive rows of a recording.

    Args:
        images: (name in the gallery's folder, content) of the thumbnails.
    """

    images: list[tuple[str, bytes]]


class TrackRows:
    """Gathers the rows of a recording's tracklets; their crops are embedded in batches, also across tracklets.

    Args:
        recording: whose tracklets.
        number: of the recording in the export, which keeps the names of its thumbnails apart.
        embedder: its `batch_size` is that of the passes.
        locate: returns the file that holds a frame, for rows without thumbnails.
    """

    def __init__(
        self,
        recording: Recording,
        number: int,
        embedder: Embedder,
        options: RowOptions,
        locate: Callable[[int], str] = lambda frame: "",
    ) -> None:
        self.recording, self.embedder, self.options, self._locate = recording, embedder, options, locate
        self._prefix = f"{TRACK_CROPS}/{number}-{recording.name.replace('/', '-')}"
        self._waiting: list[Tracklet] = []
        self._blocks: list[np.ndarray] = []
        self._records: list[dict[str, Any]] = []
        self._images: list[tuple[str, bytes]] = []

    def add(self, tracklets: Iterable[Tracklet]) -> None:
        """Add tracklets; those without a crop are dropped."""
        self._waiting += [tracklet for tracklet in tracklets if tracklet.crops]
        if sum(len(tracklet.crops) for tracklet in self._waiting) >= self.embedder.batch_size:
            self._embed()

    def take(self) -> TrackPart:
        """Return the rows since the last call."""
        self._embed()
        blocks = [np.empty((0, self.embedder.dim), self.options.dtype), *self._blocks]
        part = TrackPart(np.concatenate(blocks), self._records, [], self._images)
        self._blocks, self._records, self._images = [], [], []
        return part

    def _embed(self) -> None:
        crops = [crop for tracklet in self._waiting for crop in tracklet.crops]
        size, camera = self.embedder.batch_size, self.recording.camera
        blocks = [np.empty((0, self.embedder.dim), np.float32)]
        for start in range(0, len(crops), size):
            planes = np.stack([self.embedder.planes(crop.pixels) for crop in crops[start : start + size]])
            blocks.append(self.embedder.embed(planes, [camera] * len(planes)))
        embeddings, start = np.concatenate(blocks), 0
        for tracklet in self._waiting:
            stop = start + len(tracklet.crops)
            self._add_rows(tracklet, embeddings[start:stop])
            start = stop
        self._waiting = []

    def _add_rows(self, tracklet: Tracklet, embeddings: np.ndarray) -> None:
        """Add the rows of a tracklet, given the embeddings (n, D) of its crops."""
        weights = np.array([max(crop.quality.value, LEAST_WEIGHT) for crop in tracklet.crops])
        if self.options.templates:
            chosen = diverse(embeddings, self.options.templates)
            rows, crops = embeddings[chosen], [tracklet.crops[place] for place in chosen]
        else:
            rows, crops = pool(embeddings, weights)[None], [tracklet.crops[0]]
        with np.errstate(over="ignore"):  # values beyond float16 become infinite and are reported below
            rows = rows.astype(self.options.dtype)
        name = f"{self.recording.name}/{tracklet.id}"
        if not np.isfinite(rows).all():
            raise UserError(
                f"{name}: its embedding is not finite kept as {self.options.dtype}; try --precision fp32 --dtype float32, "
                "and test the weights"
            )
        self._blocks.append(rows)
        self._records += [self._record(tracklet, name, crop) for crop in crops]
        if self.options.thumbnails:
            shown = blurred if self.options.blur else np.asarray
            self._images += [
                (self._file(tracklet, crop), encode(shown(crop.pixels), SUFFIX)) for crop in tracklet.crops
            ]

    def _file(self, tracklet: Tracklet, crop: TrackCrop) -> str:
        return f"{self._prefix}-{tracklet.id}-{crop.frame:06d}{SUFFIX}"

    def _record(self, tracklet: Tracklet, name: str, crop: TrackCrop) -> dict[str, Any]:
        recording = self.recording
        video = without_password(recording.source)
        start, end = recording.time(tracklet.start), recording.time(tracklet.end)
        x0, y0, x1, y1 = crop.box
        return {
            "path": self._file(tracklet, crop) if self.options.thumbnails else self._locate(crop.frame),
            "pid": None,
            "camera": recording.camera,
            "view": None,
            "time": start,
            "tracklet": name,
            "end_time": end,
            "duration": tracklet.end - tracklet.start,
            "time_zone": recording.utc_offset(tracklet.start),
            "video": video,
            "label": tracklet.label,
            "frame": crop.frame,
            "first_frame": tracklet.first_frame,
            "last_frame": tracklet.last_frame,
            "x": x0,
            "y": y0,
            "width": x1 - x0,
            "height": y1 - y0,
            "num_images": tracklet.num_boxes,
            "confidence": tracklet.confidence,
            "quality": crop.quality.value,
            **{key: getattr(crop.quality, key) for key in ("size", "sharpness", "inside", "visible")},
        }
