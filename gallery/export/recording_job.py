"""Export recordings: follow the people through each, one row per track; saved chunk by chunk.

The unit of work is a chunk of frames. After each, its rows and the state of the tracker are written, so a killed export
resumes behind its last chunk and gives the same bytes as one that was not interrupted. Chunks have a fixed number of frames, so
that batches do not depend on where an earlier attempt ended.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone, tzinfo
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import digest
from ...common.inputs.regular_files import read_chunks
from ...processor.distributed.process_group import Ranks
from ...processor.embedding.embedder import Embedder
from ...processor.runs.signals import StopSignals
from ...tracking.camera_options import CameraOptions
from ...tracking.detections import Detections, VideoFrame
from ...tracking.detectors import Detector
from ...tracking.frames import CorruptVideoError
from ...tracking.frames.live_stream import without_password
from ...tracking.recording_tracks import OpenRecording, TrackFinder, TrackOptions, file_of
from ...tracking.recordings import Recording
from ..keeping.exported_rows import source_name, write_exported
from ..maintenance.export_formats import check_columns
from ..storage.gallery import Gallery
from .export_plan import RecordingPlan
from .recording_folder import RecordingFolder, RecordingProgress
from .resumable_job import FOLDER, ExportOutput, ResumableJob
from .source_rows import record_schema
from .track_rows import TRACK_COLUMNS, RowOptions, TrackRows
from .work_folder import FinishedPart, append_parts, log_left_out

logger = logging.getLogger(__name__)

CHUNK_FRAMES = 512  # about the most that a killed export has to follow again
LIVE = "live"  # in place of the fingerprint of a file
LEAST_SHARE = 0.9  # of a live source's frames, below which the log says that frames were left out
Stopped = Callable[[], bool]


class RecordingJob(ResumableJob):
    """One export of recordings.

    Args:
        output, format: the gallery's folder, or the file in another format.
        recordings: videos, folders of frames, or one live stream.
        finder: detector and tracker.
        rows: what becomes of a tracklet.
        zone: of a live source's times; None = this machine's.
        skipped: a line per recording that was left out because it could not be read.
    """

    unit = "tracks"
    plan: RecordingPlan
    work: RecordingFolder
    first_number = 0  # in the names of the thumbnails

    def __init__(
        self,
        output: Path,
        format: str,
        recordings: Sequence[Recording],
        finder: TrackFinder,
        embedder: Embedder,
        rows: RowOptions,
        plan: RecordingPlan,
        *,
        zone: tzinfo | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        work = RecordingFolder(output.with_name(output.name + ".partial"))
        super().__init__(ExportOutput(output, format), work, embedder, plan, bool(skipped))
        self.recordings, self.finder, self.rows = list(recordings), finder, rows
        self.zone, self.skipped = zone, list(skipped)

    def embed(self, ranks: Ranks) -> None:
        """Follow this rank's share of the recordings, from where an earlier call ended."""
        if self.is_live:
            if ranks.is_first:
                self._follow_live()
            return
        numbers = range(ranks.rank, len(self.recordings), ranks.size)
        done = sum(self._progress(number).num_frames for number in numbers)
        if done:
            logger.info("%d frames are done already", done)
        with self._bar(numbers, done, ranks.is_first) as bar:
            for number in numbers:
                if not self._progress(number).done:
                    self._follow(number, self.finder.open(self.recordings[number]), bar)

    @property
    def is_done(self) -> bool:
        """Whether the output is the finished export of the plan; never of a live source, which shows something new."""
        return not self.is_live and super().is_done

    @property
    def is_live(self) -> bool:
        """Whether the source is a live stream."""
        return bool(self.recordings) and self.recordings[0].live

    def _progress(self, number: int) -> RecordingProgress:
        """Return the progress of a recording; none if its file was replaced since."""
        progress = self.work.progress(number)
        file = LIVE if self.is_live else self.plan.files[number]
        return progress if progress.file == file else RecordingProgress()

    def _bar(self, numbers: Sequence[int], done: int, shows: bool) -> tqdm:
        """Return the progress bar; it shows the time left if the recordings state their numbers of frames."""
        stride = self.plan.settings["stride"]
        counts = [self.finder.frames(self.recordings[number]).num_frames for number in numbers]
        total = sum(-(-count // stride) for count in counts if count) if all(counts) else None
        return tqdm(total=total, initial=done, desc="export", unit="frame", disable=None if shows else True)

    def _follow(
        self, number: int, opened: OpenRecording, bar: tqdm, stopped: Stopped = lambda: False
    ) -> RecordingProgress:
        """Follow one recording to its end, saving each chunk; return the progress at the end."""
        locate = partial(file_of, opened.frames)
        rows = TrackRows(opened.recording, self.first_number + number, self.embedder, self.rows, locate)
        progress = self._progress(number)
        if progress.num_chunks:
            opened.follower.load_state(self.work.load(number)[1])
        else:
            progress = self._new_progress(number, opened.recording)
        with closing(opened.stream(progress.next_frame, stopped)) as frames:
            while not progress.done:
                progress = self._chunk(opened, islice(frames, self.plan.chunk_frames), rows, progress, bar, stopped)
                self.work.save(number, rows.take(), progress, opened.follower.state())
        return progress

    def _new_progress(self, number: int, recording: Recording) -> RecordingProgress:
        if recording.live and recording.start:
            return RecordingProgress(file=LIVE, name=recording.name, start=recording.start.isoformat())
        return RecordingProgress(file=self.plan.files[number])

    def _chunk(
        self,
        opened: OpenRecording,
        frames: Iterator[tuple[VideoFrame, Detections]],
        rows: TrackRows,
        progress: RecordingProgress,
        bar: tqdm,
        stopped: Stopped,
    ) -> RecordingProgress:
        """Follow one chunk; return the progress after it."""
        count, last = 0, progress.next_frame - 1
        for frame, detections in frames:
            rows.add(opened.follower.add(frame, detections)[1])
            count, last = count + 1, frame.number
            bar.update()
            if stopped():
                break
        done = count < self.plan.chunk_frames or stopped()
        if done:
            rows.add(opened.finish())
        return replace(
            progress,
            num_chunks=progress.num_chunks + 1,
            next_frame=last + 1,
            num_frames=progress.num_frames + count,
            done=done,
        )

    def _follow_live(self) -> None:
        """Follow a live stream until it ends or a signal comes; what an earlier call saw before it was killed stays."""
        numbers, recording = self.work.numbers(), self.recordings[0]
        for number in numbers:
            self._close(number)
        opened = self.finder.open(recording)  # connects, which takes a while
        start = recording.start or datetime.now(timezone.utc).astimezone(self.zone)
        opened.recording = replace(
            recording, start=start, name=f"{recording.name}/{self.first_number + len(numbers) + 1}"
        )
        with StopSignals() as signals, tqdm(desc="export", unit="frame", disable=None) as bar:
            logger.info("following %s; Ctrl-C ends it and keeps all tracks", opened.frames.name)
            progress = self._follow(len(numbers), opened, bar, lambda: signals.asked)
        if progress.num_frames * opened.stride < LEAST_SHARE * progress.next_frame:
            logger.warning(
                "%d of %d frames were followed, the detector is slower than the camera: --stride n reads every n-th",
                *(progress.num_frames, progress.next_frame),
            )

    def _close(self, number: int) -> None:
        """Keep the tracks that were open when an earlier call on the live stream was killed."""
        progress, state = self.work.load(number)
        if progress.done:
            return
        recording = replace(self.recordings[0], name=progress.name, start=datetime.fromisoformat(progress.start))
        follower, rows = (
            self.finder.follower(recording),
            TrackRows(recording, self.first_number + number, self.embedder, self.rows),
        )
        follower.load_state(state)
        rows.add(follower.builder.finish())
        self.work.save(number, rows.take(), replace(progress, num_chunks=progress.num_chunks + 1, done=True), {})

    def fill(self, gallery: Gallery) -> list[str]:
        """Append all chunks to the new gallery; return a line per recording that could not be read."""
        count = append_parts(gallery, self.finished_parts(), gallery.admitted)
        if not count.added + count.left_out:
            logger.warning("nobody was found: try a lower --confidence, other --classes, or look with vitreid track")
        log_left_out(self.output.path, count)
        return self.skipped

    def finished_parts(self) -> Iterator[FinishedPart]:
        """Yield what was saved of the recordings."""
        return self.work.parts(record_schema(TRACK_COLUMNS))

    def describe(self, gallery: Gallery) -> None:
        """Write which rows this export has brought."""
        keys = gallery.live_keys()
        write_exported(gallery.path, source_name(self.plan.source), keys, keys)


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings become a gallery.

    Args:
        tracks: detector or boxes, and tracker.
        cameras: camera and start of the recordings.
        rows: what becomes of a tracklet.
    """

    tracks: TrackOptions
    cameras: CameraOptions = field(default_factory=CameraOptions)
    rows: RowOptions = field(default_factory=RowOptions)

    def open_models(self, load: Callable[[], Embedder]) -> tuple[Embedder, Detector | None]:
        """Return the embedder that `load` returns, and the detector, opened meanwhile, if it is a file; else None."""
        if not os.path.isfile(self.tracks.detector or ""):
            return load(), None
        with ThreadPoolExecutor(1, "detector") as pool:
            opening = pool.submit(self.tracks.open_detector)
            return load(), opening.result()

    def job(
        self,
        source: str,
        output: Path,
        format: str,
        embedder: Embedder,
        dtype: str = "float32",
        skips: bool = False,
        detector: Detector | None = None,
    ) -> RecordingJob:
        """Return the job that exports the recordings that `source` names.

        Args:
            skips: leave out videos that cannot be read; False = raise.
            detector: an open one; None = it is opened here.
        Raises:
            UserError: thumbnails of a live source are not to be kept; or as `CameraOptions.recordings` and `TrackFinder`.
            CorruptVideoError: a video cannot be read.
        """
        keeps = self.rows.thumbnails and format == FOLDER
        rows = replace(self.rows, dtype=dtype, thumbnails=keeps, blur=self.rows.blur and keeps)
        if format != FOLDER:
            check_columns(record_schema(TRACK_COLUMNS).names, format)
        recordings = self.cameras.recordings(source)
        if recordings[0].live and not rows.thumbnails:
            raise UserError(
                "--no-crops, --format: the frames of a live source are gone once it has ended; keep the crops"
            )
        finder = TrackFinder(self.tracks, embedder, detector)
        recordings, skipped = _readable(recordings, finder, skips)
        plan = make_recording_plan(embedder, finder, recordings, source, rows)
        zone = self.cameras.zone
        return RecordingJob(output, format, recordings, finder, embedder, rows, plan, zone=zone, skipped=skipped)


def _readable(recordings: list[Recording], finder: TrackFinder, skips: bool) -> tuple[list[Recording], list[str]]:
    """Return the recordings of which a frame can be read, and a line for each other one."""
    kept, skipped = [], []
    for recording in recordings:
        try:
            if not recording.live:
                finder.frames(recording)
            kept.append(recording)
        except CorruptVideoError as error:
            if not skips or len(recordings) == 1:
                raise
            skipped.append(str(error))
    if not kept:
        raise UserError(f"--input: none of the {len(skipped)} videos can be read, the first: {skipped[0]}")
    return kept, skipped


def make_recording_plan(
    embedder: Embedder, finder: TrackFinder, recordings: Sequence[Recording], text: str, rows: RowOptions
) -> RecordingPlan:
    """Return the plan of an export of recordings.

    Args:
        text: the source as given by the user.
    """
    batch = finder.detector.batch_size if finder.detector else 1
    return RecordingPlan(
        model=embedder.fingerprint,
        source=without_password(text),
        dtype=rows.dtype,
        batch_size=embedder.batch_size,
        device=embedder.device.type,
        precision=str(embedder.precision).removeprefix("torch."),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        files=tuple(LIVE if recording.live else _files(Path(recording.source)) for recording in recordings),
        recordings=tuple(_line(recording) for recording in recordings),
        chunk_frames=max(1, CHUNK_FRAMES // batch) * batch,
        settings=_settings(finder, recordings, rows),
    )


def _settings(finder: TrackFinder, recordings: Sequence[Recording], rows: RowOptions) -> dict[str, Any]:
    """Return all options that affect the rows, in JSON types."""
    options = finder.options
    settings = {**asdict(options), "templates": rows.templates, "thumbnails": rows.thumbnails}
    if rows.blur:  # absent in the plans of galleries from before this option
        settings["blur"] = True
    if options.detector:
        settings["detector"] = _identity(options.detector)
    else:
        settings["boxes"] = sorted({_identity(str(finder.box_file(recording))) for recording in recordings})
    return json.loads(json.dumps(settings, default=str))


def _line(recording: Recording) -> tuple[str, ...]:
    start = recording.start.isoformat() if recording.start else ""
    return without_password(recording.source), recording.name, recording.camera or "", start


def _files(path: Path) -> str:
    """Return a fingerprint of size and date of a video, or of the files of a folder of frames."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return digest(repr((file.name, file.stat().st_size, file.stat().st_mtime_ns)).encode() for file in files)


def _identity(name: str) -> str:
    """Return a detector's name, or the path of a file or folder with a fingerprint; files of the same stem belong to a file."""
    path = Path(name).expanduser()
    if path.is_dir():
        return f"{name} {_files(path)}"
    if not path.is_file():
        return name
    files = sorted(file for file in path.parent.iterdir() if file.stem == path.stem and file.is_file())
    return f"{name} {digest(part for file in files for part in read_chunks(file))}"
