"""The tracks of a recording: opens frames, detector or box file, and tracker, and follows the people through it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.errors import UserError
from ..processor.embedding.embedder import Embedder
from .box_files import BoxesOfVideo, GivenBoxes, read_boxes, select_classes
from .detections import Detections, VideoFrame
from .detectors import Detector, DetectorOptions, open_detector
from .frames import FrameFolder, FrameSource, StillPicture, open_frames
from .recordings import Recording, list_recordings
from .tracker import Tracker, TrackerOptions
from .tracklets.doubtful_tracks import TrackChecks
from .tracklets.following import Detect, Follower, SingleIds, StatedIds, TrackedFrame, TrackerIds, detected
from .tracklets.recent_looks import EmbedCrops, RecentLooks
from .tracklets.tracklet import NUM_CROPS, Tracklet, TrackletBuilder

LEAST_BOXES = 3  # of a track; fewer are mostly false detections


@dataclass(frozen=True)
class TrackOptions:
    """How people are found in recordings and followed.

    Args:
        detector: what `open_detector` opens: a name, a file, or "motion"; None = `boxes`.
        boxes: file of boxes, in place of a detector; a relative name that exists in a sequence's folder (gt/gt.txt) is that one.
        box_format: of `boxes`; None = found from its content. class_names: of class numbers in it, or "coco80", "coco91".
        frames_from: number of the first frame in `boxes`; None = as its format defines.
        classes: names of the classes to follow.
        confidence: score at which a box can start a track, 0-1.
        stride: every n-th frame is read.
        fps: frames per second; None = as the recording states.
        track: follow people; False = each box is a track.
        num_crops: most crops kept of each track.
        least_boxes: tracks with fewer boxes are dropped.
        keep_still: keep tracks in whose box nothing changes for 15 s or more: pictures of people, and objects.
        lost_seconds: how long somebody lost can be found again by appearance.
        device, precision: of the detector.
        description: how a detector's model file is fed and read; see `DetectorOptions`.
    Raises:
        UserError: neither detector nor boxes, or both; a number out of its range.
    """

    detector: str | None = None
    boxes: str | None = None
    box_format: str | None = None
    class_names: tuple[str, ...] | str | None = None
    frames_from: int | None = None
    classes: tuple[str, ...] = ("person",)
    confidence: float = 0.5
    stride: int = 1
    fps: float | None = None
    track: bool = True
    num_crops: int = NUM_CROPS
    least_boxes: int = LEAST_BOXES
    keep_still: bool = False
    lost_seconds: float = TrackerOptions.lost_seconds
    device: str = "auto"
    precision: str = "auto"
    description: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.detector is None) == (self.boxes is None):
            raise UserError("--detector, --boxes: give one of them: what finds the people, or a file of boxes")
        if not 0 <= self.confidence <= 1:
            raise UserError(f"--confidence: {self.confidence:g}; give a score from 0 to 1")
        for name in ("stride", "num_crops", "least_boxes"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: {getattr(self, name)}; give 1 or more")

    @property
    def tracker(self) -> TrackerOptions:
        """Settings of the tracker: boxes of lower confidence continue tracks, and start none."""
        low = min(TrackerOptions.low_score, self.confidence)
        return TrackerOptions(high_score=self.confidence, low_score=low, lost_seconds=self.lost_seconds)

    @property
    def lowest_score(self) -> float:
        """The score below which boxes are of no use."""
        return self.tracker.low_score if self.track else self.confidence

    def open_detector(self) -> Detector | None:
        """Return the detector; None if the boxes come from a file.

        Raises:
            UserError, FileNotFoundError, MissingPackageError: it cannot be used.
        """
        if self.detector is None:
            return None
        return open_detector(
            self.detector,
            DetectorOptions(
                classes=self.classes,
                confidence=self.lowest_score,
                device=self.device,
                precision=self.precision,
                description=self.description,
            ),
        )


class TrackFinder:
    """Follows people through recordings, with one detector for all of them.

    Args:
        options: how.
        embedder: appearance for the tracker; None = motion only.
        detector: what `options.open_detector` returned; None = it is called here.
    Raises:
        UserError, FileNotFoundError, MissingPackageError: the detector or the box file cannot be used.
    """

    def __init__(
        self, options: TrackOptions, embedder: Embedder | None = None, detector: Detector | None = None
    ) -> None:
        self.options, self.embedder = options, embedder
        self.detector = options.open_detector() if detector is None else detector
        self._given: dict[Path, GivenBoxes] = {}
        self._frames: dict[str, FrameSource] = {}

    def frames(self, recording: Recording) -> FrameSource:
        """Return the frames of a recording; they are opened once, which reads the first of them, unless the source is live."""
        if recording.live:
            return open_frames(recording.source, self.options.fps)
        if recording.source not in self._frames:
            self._frames[recording.source] = open_frames(recording.source, self.options.fps)
        return self._frames[recording.source]

    def open(self, recording: Recording) -> OpenRecording:
        """Return the recording with its boxes and a new tracker."""
        options = self.options
        frames = self.frames(recording)
        boxes = None if self.detector else BoxesOfVideo(self._boxes(recording), frames, options.frames_from)
        stream = boxes.stream if boxes else self.detector.stream  # type: ignore[union-attr]
        follower, has_memory = self.follower(recording, boxes), self.detector is not None and self.detector.has_memory
        return OpenRecording(recording, frames, stream, follower, options.stride, has_memory)

    def follower(self, recording: Recording, boxes: BoxesOfVideo | None = None) -> Follower:
        """Return a new follower of a recording.

        Args:
            boxes: its boxes, if a file gives them; their tracks are used if it states them.
        """
        options = self.options
        ids = self._ids(recording, boxes)
        checks = TrackChecks(options.confidence, options.keep_still) if isinstance(ids, TrackerIds) else None
        builder = TrackletBuilder(options.num_crops, options.least_boxes if options.track else 1, checks)
        return Follower(ids, builder)

    def box_file(self, recording: Recording) -> Path:
        """Return the box file of a recording."""
        own = recording.folder / str(self.options.boxes) if recording.folder else None
        return own if own is not None and own.is_file() else Path(str(self.options.boxes)).expanduser()

    def _boxes(self, recording: Recording) -> GivenBoxes:
        path = self.box_file(recording)
        if path not in self._given:
            self._given.clear()  # each sequence has its own
            given = read_boxes(path, self.options.box_format, self.options.class_names)
            self._given[path] = select_classes(given, self.options.classes, self.options.lowest_score)
        return self._given[path]

    def _ids(self, recording: Recording, boxes: BoxesOfVideo | None) -> SingleIds | StatedIds | TrackerIds:
        if not self.options.track:
            return SingleIds()
        if boxes is not None and (last := boxes.last_frames()):
            return StatedIds(last)
        looks = RecentLooks(crop_embedder(self.embedder, recording.camera)) if self.embedder else None
        return TrackerIds(Tracker(self.options.tracker), looks)


@dataclass
class OpenRecording:
    """A recording that is being followed.

    Args:
        recording: which.
        frames: its frames.
        detect: adds boxes to frames.
        follower: adds track ids and gathers tracklets.
        stride: every n-th frame is read.
        has_memory: the boxes of a frame depend on the frames before it.
    """

    recording: Recording
    frames: FrameSource
    detect: Detect
    follower: Follower
    stride: int = 1
    has_memory: bool = False

    def stream(
        self, start: int = 0, stopped: Callable[[], bool] = lambda: False
    ) -> Generator[tuple[VideoFrame, Detections], None, None]:
        """Yield the frames from number `start` on, with their boxes.

        Args:
            stopped: True ends a live source.
        """
        frames = self.frames.frames(self.stride, 0 if self.has_memory else start)
        with fewer_threads(), closing(detected(frames, self.detect, self.frames.live, stopped)) as found:
            for frame, detections in found:
                if frame.number >= start:
                    yield frame, detections

    def tracked(
        self, stopped: Callable[[], bool] = lambda: False
    ) -> Generator[tuple[TrackedFrame, list[Tracklet]], None, None]:
        """Yield each frame with its track ids, and the tracklets that ended there; `finish` returns those left.

        Args:
            stopped: True ends a live source.
        """
        with closing(self.stream(stopped=stopped)) as found:
            for frame, detections in found:
                yield self.follower.add(frame, detections)

    def finish(self) -> list[Tracklet]:
        """Return the tracklets that were still open at the last frame."""
        return self.follower.builder.finish()


def file_of(frames: FrameSource, number: int) -> str:
    """Return the file that holds a frame: a picture of the whole frame, or the video."""
    if isinstance(frames, FrameFolder):
        return str(frames.files[number])
    return str(frames.path) if isinstance(frames, StillPicture) else frames.name


@contextmanager
def fewer_threads() -> Iterator[None]:
    """Return a context in which torch computes on half of its threads: the others are the detector's.

    Threads of torch wait for each other without giving their core away. On two cores that a detector uses too, an embedding by
    two threads takes ten times as long as by one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crop_embedder(embedder: Embedder, camera: str | None) -> EmbedCrops:
    """Return a function from crops of one camera, (h, w, 3) uint8 RGB each, to their embeddings (n, D)."""

    def embed(crops: Sequence[np.ndarray]) -> np.ndarray:
        return embedder.embed(np.stack([embedder.planes(crop) for crop in crops]), [camera] * len(crops))

    return embed


def find_tracks(
    source: str, detector: str | None = "motion", *, embedder: Embedder | None = None, **options: Any
) -> Iterator[Tracklet]:
    """Yield the tracks of a recording, each once it has ended; memory does not grow with the recording's length.

    Args:
        source: a video, a folder of frames, or a live stream; of several recordings in a folder, one after the other.
        detector: what finds the people, as for `TrackOptions`; None with `boxes=FILE`.
        embedder: appearance, so that people are found again after they were hidden; None = motion only.
        options: further fields of `TrackOptions`.
    """
    finder = TrackFinder(TrackOptions(detector=detector, **options), embedder)
    for recording in list_recordings(source):
        opened = finder.open(recording)
        for _, ended in opened.tracked():
            yield from ended
        yield from opened.finish()


def follow_tracks(
    source: str, detector: str | None = "motion", *, embedder: Embedder | None = None, **options: Any
) -> Iterator[TrackedFrame]:
    """Yield each frame of a recording with its boxes and their track ids; arguments as for `find_tracks`."""
    finder = TrackFinder(TrackOptions(detector=detector, **options), embedder)
    for recording in list_recordings(source):
        yield from (tracked for tracked, _ in finder.open(recording).tracked())
