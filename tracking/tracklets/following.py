"""Frames -> boxes -> track ids -> tracklets, as a pipeline of threads with bounded queues."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...common.prefetch import read_ahead
from ..detections import Detections, VideoFrame
from ..tracker import Tracker
from .crop_quality import cut
from .tracklet import Tracklet, TrackletBuilder

Detect = Callable[[Iterable[VideoFrame]], Iterator[tuple[VideoFrame, Detections]]]  # in order, a frame for each frame
EmbedCrops = Callable[[Sequence[np.ndarray]], np.ndarray]  # crops (h, w, 3) uint8 RGB -> (n, D)
WAITING = 8  # frames between two stages


class TrackedFrame(NamedTuple):
    """A frame with its boxes and their tracks.

    Args:
        frame: the frame.
        detections: N boxes.
        ids: (N,) int64 track ids, -1 = none.
    """

    frame: VideoFrame
    detections: Detections
    ids: np.ndarray


class TrackIds(Protocol):
    """Gives boxes their track ids, frame by frame."""

    def update(self, frame: VideoFrame, detections: Detections) -> np.ndarray:
        """Return (N,) int64, -1 = none."""
        ...

    def renamed(self) -> list[tuple[int, int]]:
        """Return (id so far, id of the earlier track that it continues) of tracks that the last update joined."""
        ...

    def ended(self, open_ids: Sequence[int]) -> list[int]:
        """Return those of the ids that no later frame can have."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later calls depend on."""
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        ...


class TrackerIds:
    """Track ids by our tracker.

    Args:
        tracker: a new one for each recording.
        embed: embeds crops, for appearance; None = motion only.
    """

    def __init__(self, tracker: Tracker, embed: EmbedCrops | None = None) -> None:
        self._tracker, self._embed = tracker, embed

    def update(self, frame: VideoFrame, detections: Detections) -> np.ndarray:
        """Return the tracker's ids."""

        def embed(rows: np.ndarray) -> np.ndarray:
            assert self._embed is not None
            crops = [_rgb(cut(frame.pixels, detections.boxes[row])) for row in rows]
            found = self._embed(crops)
            return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

        return self._tracker.update(frame, detections, embed if self._embed else None)

    def renamed(self) -> list[tuple[int, int]]:
        """Return the renames of the last update."""
        return self._tracker.renamed

    def ended(self, open_ids: Sequence[int]) -> list[int]:
        """Return the ids that the tracker has forgotten."""
        return sorted(set(open_ids) - set(self._tracker.known_ids.tolist()))

    def state(self) -> dict[str, np.ndarray]:
        """Return the tracker's state."""
        return self._tracker.state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the tracker."""
        self._tracker.load_state(state)


class StatedIds:
    """Track ids that the boxes' own file states, such as those of MOTChallenge.

    Args:
        last_frames: number of the last frame of each id.
    """

    def __init__(self, last_frames: Mapping[int, int]) -> None:
        self._last, self._frame = last_frames, -1

    def update(self, frame: VideoFrame, detections: Detections) -> np.ndarray:
        """Return the stated ids."""
        self._frame = frame.number
        return detections.tracks

    def renamed(self) -> list[tuple[int, int]]:
        """Return none."""
        return []

    def ended(self, open_ids: Sequence[int]) -> list[int]:
        """Return the ids that have their last box behind them."""
        return [id for id in open_ids if self._last[id] <= self._frame]

    def state(self) -> dict[str, np.ndarray]:
        """Return nothing: the ids are in the boxes' file."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Do nothing."""


class SingleIds:
    """Each box is a track (`--no-track`)."""

    def __init__(self) -> None:
        self._next = 1

    def update(self, frame: VideoFrame, detections: Detections) -> np.ndarray:
        """Return new ids."""
        ids = np.arange(self._next, self._next + len(detections))
        self._next += len(detections)
        return ids

    def renamed(self) -> list[tuple[int, int]]:
        """Return none."""
        return []

    def ended(self, open_ids: Sequence[int]) -> list[int]:
        """Return all ids."""
        return list(open_ids)

    def state(self) -> dict[str, np.ndarray]:
        """Return the next id."""
        return {"next": np.array(self._next)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the next id."""
        self._next = int(state["next"])


class Follower:
    """Follows the boxes of one recording and yields each tracklet once it has ended.

    Args:
        ids: where the track ids come from.
        builder: gathers the tracklets.
    """

    def __init__(self, ids: TrackIds, builder: TrackletBuilder) -> None:
        self.ids, self.builder = ids, builder

    def add(self, frame: VideoFrame, detections: Detections) -> tuple[TrackedFrame, list[Tracklet]]:
        """Return the next frame with its track ids, and the tracklets that ended before it or in it."""
        tracked = TrackedFrame(frame, detections, self.ids.update(frame, detections))
        for old, new in self.ids.renamed():
            self.builder.rename(old, new)
        self.builder.add(*tracked)
        return tracked, self.builder.close(self.ids.ended(self.builder.open_ids))

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later frames depend on, as arrays by name."""
        parts = {"ids": self.ids.state(), "builder": self.builder.state()}
        return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken."""
        for part, target in (("ids", self.ids), ("builder", self.builder)):
            own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
            target.load_state(own)  # type: ignore[attr-defined]


def detected(
    frames: Iterable[VideoFrame], detect: Detect, live: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Generator[tuple[VideoFrame, Detections], None, None]:
    """Yield frames with their boxes: one thread decodes, one detects, the caller's thread does the rest.

    Args:
        live: the source does not wait: where detection is slower, frames are left out.
        stopped: asked while there is no frame yet; True ends a live source.
    """
    decoded = read_ahead(frames, WAITING, newest=live, stopped=stopped)
    return read_ahead(detect(decoded), WAITING, stopped=stopped)


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield consecutive lists of `size` items; the last may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _rgb(crop: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(crop[..., ::-1])
