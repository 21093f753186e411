"""Tracklets: what is known of one track, gathered frame by frame; memory depends on the open tracks, not on the length."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..association.overlap import covered_shares
from ..detections import Detections, VideoFrame
from .best_crops import BestCrops, TrackCrop, kept_pixels
from .crop_quality import CropQuality, box_qualities, cut, sharpness
from .doubtful_tracks import TrackChecks, TrackEvidence

logger = logging.getLogger(__name__)
NUM_CROPS = 8  # kept of each track


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One person (or car, …) followed through successive frames of one recording.

    Args:
        id: of the track, unique in the recording.
        label: class name.
        first_frame, last_frame: numbers of the frames of its first and last box.
        start, end: times of these frames, seconds in the recording.
        num_boxes: number of its boxes.
        confidence: mean of its boxes.
        crops: the best of its crops, best first; empty if no box lies inside the frame.
    """

    id: int
    label: str
    first_frame: int
    last_frame: int
    start: float
    end: float
    num_boxes: int
    confidence: float
    crops: tuple[TrackCrop, ...]


@dataclass
class _OpenTrack:
    """A track that may still continue; the fields are those of `Tracklet`, `scores` is a sum."""

    label: str
    first_frame: int
    last_frame: int
    start: float
    end: float
    best: BestCrops
    num_boxes: int = 0
    scores: float = 0.0
    evidence: TrackEvidence = field(default_factory=TrackEvidence)

    def closed(self, id: int) -> Tracklet:
        span = (self.first_frame, self.last_frame, self.start, self.end)
        return Tracklet(id, self.label, *span, self.num_boxes, self.scores / self.num_boxes, self.best.ranked())


@dataclass
class TrackletBuilder:
    """Gathers tracklets from tracked frames.

    Args:
        num_crops: most crops kept of each track.
        least_boxes: tracks with fewer boxes are dropped; most of them are false detections.
        checks: drop second boxes of people, and objects that never change; None = keep them.
    Attributes:
        dropped: ids of the tracks that the last `close` dropped.
    """

    num_crops: int = NUM_CROPS
    least_boxes: int = 1
    checks: TrackChecks | None = None
    dropped: list[int] = field(default_factory=list, init=False)
    _open: dict[int, _OpenTrack] = field(default_factory=dict, init=False)

    @property
    def open_ids(self) -> list[int]:
        """Ids of the tracks that have not been closed."""
        return list(self._open)

    def add(self, frame: VideoFrame, detections: Detections, ids: np.ndarray) -> None:
        """Add the boxes of a frame to their tracks.

        Args:
            ids: (N,) track of each detection, -1 = none.
        """
        for row, quality in enumerate(box_qualities(frame.pixels, detections)):
            if ids[row] >= 0:
                self._add(int(ids[row]), frame, detections, row, quality)
        if self.checks is not None:
            self._judge(self.checks, frame, detections, ids)

    def _judge(self, checks: TrackChecks, frame: VideoFrame, detections: Detections, ids: np.ndarray) -> None:
        """Count what the boxes of a frame say about their tracks."""
        rows = np.flatnonzero(ids >= 0)
        for row, covered in zip(rows.tolist(), covered_shares(detections.boxes[rows]).tolist()):
            evidence = self._open[int(ids[row])].evidence
            evidence.add(bool(detections.scores[row] >= checks.confidence), covered)
            if not checks.keep_still:
                evidence.look(frame.pixels, frame.seconds, detections.boxes[row])

    def _add(self, id: int, frame: VideoFrame, detections: Detections, row: int, bound: CropQuality) -> None:
        track = self._open.get(id)
        if track is None:
            here = (frame.number, frame.number, frame.seconds, frame.seconds)
            track = self._open[id] = _OpenTrack(detections.labels[row], *here, BestCrops(self.num_crops))
        track.last_frame, track.end = frame.number, frame.seconds
        track.num_boxes += 1
        track.scores += float(detections.scores[row])
        track.best.offer(bound.value, lambda least: _crop(frame, detections.boxes[row], bound, least))

    def rename(self, old: int, new: int) -> None:
        """Join the track `old` to the earlier one `new`: the tracker has found that they are one."""
        later = self._open.pop(old, None)
        if later is None:
            return
        track = self._open.setdefault(new, later)
        if track is later:
            return
        for crop in sorted(later.best.slots.values(), key=lambda crop: crop.frame):
            track.best.offer(crop.quality.value, lambda least, crop=crop: crop)  # type: ignore[misc]
        track.last_frame, track.end = max(track.last_frame, later.last_frame), max(track.end, later.end)
        track.num_boxes += later.num_boxes
        track.scores += later.scores
        track.evidence = track.evidence.joined(later.evidence)

    def close(self, ids: Iterable[int]) -> list[Tracklet]:
        """Return the finished tracks with these ids, in the order of their ids."""
        found = [(id, self._open.pop(id)) for id in sorted(ids) if id in self._open]
        kept = [(id, track) for id, track in found if self._is_kept(id, track)]
        self.dropped = sorted({id for id, _ in found} - {id for id, _ in kept})
        return [track.closed(id) for id, track in kept]

    def _is_kept(self, id: int, track: _OpenTrack) -> bool:
        if track.num_boxes < self.least_boxes:
            return False
        if self.checks is None:
            return True
        if track.evidence.is_still:
            logger.info(
                "track %d, %.0f s, is left out: nothing changes in its box, as in a picture or an object; "
                "--keep-still keeps such tracks",
                *(id, track.end - track.start),
            )
            return False
        return not track.evidence.is_second(self.least_boxes)

    def finish(self) -> list[Tracklet]:
        """Return all tracks that are still open, in the order of their ids."""
        return self.close(self.open_ids)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later calls depend on, as arrays by name."""
        pixels: dict[str, np.ndarray] = {}
        tracks = {}
        for id, track in self._open.items():
            values = {name: value for name, value in vars(track).items() if name not in ("best", "evidence")}
            values["evidence"] = {name: value for name, value in vars(track.evidence).items() if name != "picture"}
            pixels[f"{id}.look"] = track.evidence.picture
            crops = {}
            for slot, crop in track.best.slots.items():
                crops[slot] = [crop.frame, crop.seconds, crop.box, crop.quality]
                pixels[f"{id}.{slot}"] = crop.pixels
            tracks[id] = [values, track.best.width, track.best.offered, crops]
        return {"tracks": np.frombuffer(json.dumps(tracks).encode(), np.uint8), **pixels}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where the builder that `state` was taken from stopped."""
        tracks = json.loads(bytes(state["tracks"]))
        self._open = {int(id): self._restored(id, saved, state) for id, saved in tracks.items()}

    def _restored(self, id: str, saved: Any, state: Mapping[str, np.ndarray]) -> _OpenTrack:
        values, width, offered, crops = saved
        best = BestCrops(self.num_crops)
        best.width, best.offered = width, offered
        for slot, (frame, seconds, box, quality) in crops.items():
            best.slots[int(slot)] = TrackCrop(
                frame, seconds, tuple(box), CropQuality(*quality), np.array(state[f"{id}.{slot}"])
            )
        evidence = TrackEvidence(**values.pop("evidence"), picture=np.array(state[f"{id}.look"]))
        evidence.box = tuple(evidence.box)
        return _OpenTrack(**values, best=best, evidence=evidence)


def _crop(frame: VideoFrame, box: np.ndarray, bound: CropQuality, least: float) -> TrackCrop | None:
    """Return the crop of a box; None if its quality does not exceed `least`, or if no pixel of it lies inside the frame."""
    pixels = cut(frame.pixels, box)
    if not pixels.size:
        return None
    quality = bound._replace(sharpness=sharpness(pixels))
    if quality.value <= least:
        return None
    x0, y0, x1, y1 = map(float, box)
    return TrackCrop(frame.number, frame.seconds, (x0, y0, x1, y1), quality, kept_pixels(pixels))
