"""The tracker: boxes of successive frames -> track ids.

Two stages, as in ByteTrack (Zhang et al., ECCV 2022, arXiv:2110.06864) and BoT-SORT (Aharon et al., 2022, arXiv:2206.14651):
first motion and overlap, with the boxes of high and then of low confidence; then appearance, for people who were lost. An
embedding is computed only where it decides something: where boxes and tracks can be paired in several ways, where a box is about to
start a track, and once in a while for each track to remember what it looks like. All times are seconds, so that strides and frame
rates need no other settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..common.errors import UserError
from .association.appearance import appearance_distances, remember
from .association.appearance_limit import AppearanceLimit
from .association.frame_state import Embed, FrameState
from .association.kalman import predict
from .association.motion_matching import Looks, match_moving
from .association.resumption import LEAST_HITS, match_lost, rename_young
from .association.second_boxes import without_duplicates
from .association.track_table import TrackTable
from .detections import Detections, VideoFrame
from .frames.camera_motion import CameraMotion
from .frames.scene_cuts import SceneCuts


@dataclass(frozen=True)
class TrackerOptions:
    """What decides whether a box continues a track. Times in seconds, sizes in box sizes (mean of width and height).

    Args:
        high_score: a box of this confidence can start a track; low_score: one of this confidence can continue one.
        motion_seconds: how long a lost track is predicted; lost_seconds: how long it can be found again by appearance.
        appearance_distance: greatest cosine distance, in [0, 2], at which a lost track is found again; None = learned from the
            video, as embeddings of different models have different scales.
        appearance_weight: share of appearance in the cost where several pairs are possible, in [0, 1].
        num_vectors: how many embeddings of a track are kept; embed_seconds: how often a visible track's appearance is remembered
            until half of them are there; afterwards half as often.
        young_seconds: how long a new track can still turn out to be a lost one.
        camera_motion: follow a camera that moves, about 5 ms a frame.
        scene_cuts: look for camera cuts, at which all motion ends.
    Raises:
        UserError: a value out of its range.
    """

    high_score: float = 0.5
    low_score: float = 0.1
    motion_seconds: float = 1.0
    lost_seconds: float = 60.0
    appearance_distance: float | None = None
    appearance_weight: float = 0.5
    embed_seconds: float = 0.5
    num_vectors: int = 8
    young_seconds: float = 1.0
    camera_motion: bool = False
    scene_cuts: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= 1:
            raise UserError(
                f"low_score {self.low_score:g} and high_score {self.high_score:g}: give 0 <= low_score <= high_score <= 1"
            )
        for name, most in (("appearance_distance", 2.0), ("appearance_weight", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise UserError(f"{name}: {value:g}; give a number in [0, {most:g}]")
        for name in ("motion_seconds", "lost_seconds", "embed_seconds", "young_seconds"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}: {getattr(self, name):g} seconds; give 0 or more")
        if self.num_vectors < 1:
            raise UserError(f"num_vectors: {self.num_vectors}; give 1 or more")


_CLEAR_SCORE = 0.8  # of the usual confidence, below which something may hide a part of the person
_FORGETTING = 0.05  # weight of one box in the usual confidence
_LOW_SECONDS = 2.0  # for which boxes of low confidence alone continue a track
_LONGEST_STEP = 3.0  # seconds between two frames, above which no motion is predicted
_TENTATIVE_SECONDS = 0.3  # a track of fewer than LEAST_HITS boxes is dropped when it was lost for longer
_TICK = 1e-6  # seconds; times are compared to this tolerance


class Tracker:
    """Gives each box of successive frames the id of its track.

    Args:
        options: what decides whether a box continues a track.
    Attributes:
        renamed: (id so far, id from now on) of the tracks that the last update found to be earlier ones.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self._table = TrackTable.empty(self.options.num_vectors)
        self._next_id = 1
        self._seconds = np.nan  # of the previous frame
        self._usual_score = 0.0  # of the sure boxes of late
        self._cuts, self._camera = SceneCuts(), CameraMotion()
        self._limit = AppearanceLimit(self.options.appearance_distance)
        self.renamed: list[tuple[int, int]] = []

    @property
    def known_ids(self) -> np.ndarray:
        """(T,) int64 ids of the tracks that a later box can still continue."""
        return self._table.ids

    def update(self, frame: VideoFrame, detections: Detections, embed: Embed | None = None) -> np.ndarray:
        """Return the track ids (N,) int64 of the frame's detections, from 1; -1 = belongs to none.

        Args:
            frame: the frame after the previous one; its pixels may be empty, then cuts and camera motion are not looked for.
            embed: returns the embeddings (n, D) of some rows (n,) of the detections; called for few rows and not in each
                frame. None = tracks are continued by motion alone.
        """
        options, table, limit = self.options, self._table, self._limit.value
        self._advance(frame)
        if options.camera_motion:
            self._follow_camera(frame, detections)
        state = FrameState(frame, detections, embed)
        high = state.scores >= options.high_score
        looks = Looks(options.appearance_weight, limit, options.embed_seconds - _TICK)
        if state.can_embed:
            state.is_clear = state.clear(table.motion_of(table.moving).boxes())
            state.is_clear &= state.scores >= _CLEAR_SCORE * self._usual_score
        match_moving(table, state, high, self._unseen(state), looks, low=False)
        recent = self._unseen(state) & (state.seconds - table.sure <= _LOW_SECONDS + _TICK)
        match_moving(table, state, state.scores >= options.low_score, recent, looks, low=True)
        rows = without_duplicates(table, state, state.free(high), limit)
        match_lost(table, state, rows, np.flatnonzero(self._unseen(state)), limit)
        continued = np.flatnonzero(state.owners >= 0)
        table.observe(state.owners[continued], state.boxes[continued], high[continued], state.seconds)
        for score in state.scores[continued[high[continued]]].tolist():
            self._usual_score += _FORGETTING * (score - self._usual_score)
        self._start(state, rows[state.owners[rows] < 0])
        self._remember(state, high)
        self.renamed = rename_young(self._table, state, options.young_seconds, limit)
        ids = np.full(len(detections), -1, np.int64)
        ids[state.owners >= 0] = self._table.ids[state.owners[state.owners >= 0]]
        self._forget()
        return ids

    def _advance(self, frame: VideoFrame) -> None:
        """Predict all tracks for the time of the frame."""
        table, step = self._table, frame.seconds - self._seconds
        is_cut = self.options.scene_cuts and self._cuts.is_cut(frame.pixels)
        if is_cut or step < 0:  # a time before the previous frame's: another recording follows
            table.moving[:], table.displaced[:] = False, True
        if step < 0:
            table.seen += step
            table.sure += step
            table.first += step
            table.embedded += step
        elif step > _LONGEST_STEP:
            table.moving[:] = False
        self._seconds = frame.seconds
        longest = max(self.options.motion_seconds, 1.5 * step) + _TICK
        table.moving &= frame.seconds - table.seen <= longest
        moving = np.flatnonzero(table.moving)
        if not len(moving):
            return
        motion = predict(table.motion_of(moving), max(0.0, step) if step == step else 0.0)
        lost = table.seen[moving] < frame.seconds - step - _TICK
        motion.mean[lost, 1, 2:] = 0  # the size of somebody hidden is not extrapolated
        table.mean[moving], table.cov[moving] = motion

    def _follow_camera(self, frame: VideoFrame, detections: Detections) -> None:
        """Move the predictions with the background."""
        transform = self._camera.follow(frame.pixels, detections.boxes)
        scale = float(np.hypot(transform[0, 0], transform[1, 0]))
        mean = self._table.mean
        mean[:, 0, :2] = mean[:, 0, :2] @ transform[:, :2].T + transform[:, 2]
        mean[:, 1, :2] = mean[:, 1, :2] @ transform[:, :2].T
        mean[:, :, 2:] *= scale
        self._table.cov *= scale**2

    def _unseen(self, state: FrameState) -> np.ndarray:
        """Return the mask (T,) of tracks that have no box in this frame."""
        unseen = np.ones(len(self._table), bool)
        unseen[state.owners[state.owners >= 0]] = False
        return unseen

    def _start(self, state: FrameState, rows: np.ndarray) -> None:
        """Start a track for each of the rows."""
        if not len(rows):
            return
        ids = np.arange(self._next_id, self._next_id + len(rows))
        state.owners[rows] = np.arange(len(self._table), len(self._table) + len(rows))
        shape = self._table.vectors.shape[1:]
        new = TrackTable.new(ids, state.labels[rows], state.boxes[rows], state.seconds, (shape[0], shape[1]))
        self._table = self._table.joined(new)
        self._next_id += len(rows)

    def _remember(self, state: FrameState, high: np.ndarray) -> None:
        """Remember how the tracks look whose last embedding is old, where the box shows one person."""
        if not state.can_embed:
            return
        rows = np.flatnonzero((state.owners >= 0) & high & state.is_clear)
        rows = rows[self._table.is_due(state.owners[rows], state.seconds, self.options.embed_seconds - _TICK)]
        if not len(rows):
            return
        found = state.embeddings(rows)
        self._table.widen(found.shape[1])
        self._compare(found, state.owners[rows])
        for track, vector in zip(state.owners[rows].tolist(), found):
            count = remember(self._table.vectors[track], int(self._table.counts[track]), vector)
            self._table.counts[track], self._table.embedded[track] = count, state.seconds

    def _compare(self, found: np.ndarray, tracks: np.ndarray) -> None:
        """Record how different crops (n, D) of visible tracks are from their own track and from the other visible ones."""
        table = self._table
        distances = appearance_distances(found, table.vectors, table.counts)  # (n, T)
        visible = table.seen == self._seconds
        own, others = distances[np.arange(len(tracks)), tracks], distances.copy()
        others[:, ~visible | (table.hits < LEAST_HITS)] = np.inf
        others[np.arange(len(tracks)), tracks] = np.inf
        self._limit.add(own, table.ids[tracks], others.ravel())

    def _forget(self) -> None:
        """Drop the tracks that cannot be found again."""
        table, options = self._table, self.options
        trusted = table.hits >= LEAST_HITS
        memory = np.where(table.counts > 0, options.lost_seconds, options.motion_seconds)
        memory = np.where(trusted, memory, min(options.motion_seconds, _TENTATIVE_SECONDS))
        kept = self._seconds - table.seen <= memory + _TICK
        if not kept.all():
            self._table = table.select(kept)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next frame depends on, as arrays by name."""
        return {
            **self._table.arrays(),
            "next_id": np.array(self._next_id),
            "seconds": np.array(self._seconds),
            "usual_score": np.array(self._usual_score),
            "cut_picture": self._cuts.previous,
            "camera_picture": self._camera.previous,
            "same_distances": self._limit.same,
            "same_tracks": self._limit.tracks,
            "different_distances": self._limit.different,
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where the tracker that `state` was taken from stopped."""
        columns = {name: np.array(state[name]) for name in self._table.arrays()}
        self._table = TrackTable(**columns)
        self._next_id, self._seconds = int(state["next_id"]), float(state["seconds"])
        self._usual_score = float(state["usual_score"])
        self._cuts.previous, self._camera.previous = np.array(state["cut_picture"]), np.array(state["camera_picture"])
        same, tracks, different = ("same_distances", "same_tracks", "different_distances")
        self._limit.load(np.array(state[same]), np.array(state[tracks]), np.array(state[different]))
