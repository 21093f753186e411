"""Follow people through recordings and write what was asked for: `vitreid track`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...common.errors import UserError
from ...processor.embedding.embedder import Embedder
from ...processor.runs.signals import StopSignals
from ..camera_options import CameraOptions
from ..frames import FrameFolder, FrameSource, StillPicture
from ..recording_tracks import OpenRecording, TrackFinder, TrackOptions, file_of
from ..tracklets.tracklet import Tracklet
from .annotated_video import AnnotatedVideo
from .identity_crops import IdentityCrops, sequence_name
from .mot_file import MotFile
from .people_manifest import PeopleManifest, write_manifest
from .track_output import TrackOutput
from .track_sheet import TrackSheet


@dataclass(frozen=True)
class OutputOptions:
    """What is written.

    Args:
        folder: of a MOT text, an annotated video and sheets per recording; None = none of these.
        video, sheet: write them.
        crops: folder of crops by identity, None = none.
        manifest: CSV file of the boxes, None = none.
        best: in crops and manifest only the best of each track; False = every box.
    Raises:
        UserError: nothing is to be written.
    """

    folder: Path | None = None
    video: bool = True
    sheet: bool = True
    crops: Path | None = None
    manifest: Path | None = None
    best: bool = False

    def __post_init__(self) -> None:
        if not (self.folder or self.crops or self.manifest):
            raise UserError("--output, --crops, --manifest: give at least one: a folder, a folder of crops, a CSV file")


@dataclass(frozen=True)
class RecordingSummary:
    """What was found in a recording.

    Args:
        name: of the recording.
        num_frames: frames read.
        num_boxes: boxes that belong to a track.
        num_tracks: tracks.
        seconds: length of the longest track.
    """

    name: str
    num_frames: int
    num_boxes: int
    num_tracks: int
    seconds: float


def write_tracks(
    source: str,
    options: TrackOptions,
    outputs: OutputOptions,
    cameras: CameraOptions | None = None,
    embedder: Embedder | None = None,
) -> list[RecordingSummary]:
    """Follow people through the recordings that `source` names; return a summary per recording.

    Ctrl-C and SIGTERM end it early; what was written up to then is complete.

    Args:
        embedder: appearance for the tracker; None = motion only.
    Raises:
        UserError, OSError: an option is wrong, or a file cannot be written.
    """
    finder, summaries = TrackFinder(options, embedder), []
    recordings = (cameras or CameraOptions()).recordings(source)
    manifests: list[PeopleManifest] = []
    with StopSignals() as signals:
        for recording in recordings:
            if signals.asked:
                break
            opened = finder.open(recording)
            files = _outputs(opened, outputs)
            manifests += [file for file in files if isinstance(file, PeopleManifest)]
            summaries.append(_follow(opened, files, lambda: signals.asked))
    if outputs.manifest:
        write_manifest(outputs.manifest, manifests)
    return summaries


def _outputs(opened: OpenRecording, options: OutputOptions) -> list[TrackOutput]:
    """Return the outputs of a recording."""
    recording, files = opened.recording, list[TrackOutput]()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        place = options.folder / sequence_name(recording)
        files.append(MotFile(place.with_name(f"{place.name}.txt")))
        if options.sheet:
            files.append(TrackSheet(place.with_name(f"{place.name}.png"), recording))
        if options.video:
            files.append(AnnotatedVideo(place.with_name(f"{place.name}.mp4"), opened.frames.fps / opened.stride))
    crops = None
    if options.crops:
        first = opened.frames.first_file_number if isinstance(opened.frames, FrameFolder) else 1
        crops = IdentityCrops(options.crops, recording, first, options.best)
        files.append(crops)
    if options.manifest:
        files.append(PeopleManifest(recording, options.best, _locator(opened.frames, crops)))
    return files


def _locator(frames: FrameSource, crops: IdentityCrops | None) -> Callable[[int, int], tuple[str, int | None]]:
    """Return a function from track and frame to the file that a manifest lists, and its frame."""
    if crops is not None:
        return lambda id, frame: (str(crops.path(id, frame)), frame)
    if frames.live:
        raise UserError(
            "--manifest: the frames of a live source are gone once it has ended; keep the crops: --crops DIR"
        )
    is_picture = isinstance(frames, FrameFolder | StillPicture)
    return lambda id, frame: (file_of(frames, frame), None if is_picture else frame)


def _follow(opened: OpenRecording, files: list[TrackOutput], stopped: Callable[[], bool]) -> RecordingSummary:
    """Follow one recording into its outputs."""
    num_frames, num_boxes, lengths = 0, 0, list[float]()

    def end(tracklets: list[Tracklet]) -> None:
        for file in files:
            file.end(tracklets, opened.follower.builder.dropped)
        lengths.extend(tracklet.end - tracklet.start for tracklet in tracklets)

    total = -(-opened.frames.num_frames // opened.stride) if opened.frames.num_frames else None
    with (
        tqdm(total=total, desc=opened.recording.name, unit="frame", disable=None) as bar,
        closing(opened.tracked(stopped)) as stream,
    ):
        for tracked, ended in stream:
            for file in files:
                for old, new in opened.follower.ids.renamed():
                    file.rename(old, new)
                file.add(tracked)
            end(ended)
            num_frames, num_boxes = num_frames + 1, num_boxes + int((tracked.ids >= 0).sum())
            bar.update()
            if stopped():
                break
    end(opened.finish())
    for file in files:
        file.finish()
    return RecordingSummary(opened.recording.name, num_frames, num_boxes, len(lengths), max(lengths, default=0.0))
