"""An update of a gallery from recordings: those that are new are followed, the others stay as they are."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import pyarrow as pa

from ....common.errors import UserError
from ...keeping.exported_rows import read_exported, source_name, write_exported
from ...keeping.row_keys import KEY_TYPE, are_in, keys_of
from ...storage.file_names import TRACK_CROPS
from ...storage.gallery import Gallery
from ..export_plan import RecordingPlan
from ..recording_job import RecordingJob
from ..work_folder import PartsCount, log_left_out
from .update_job import Update

logger = logging.getLogger(__name__)

FREE = {"batch_size", "device", "precision", "chunk_frames", "dtype", "boxes"}  # may differ between two updates
NAMED = 3  # recordings named in the log


class RecordingUpdateJob(Update, RecordingJob):
    """One update of a gallery from the recordings of a source that it does not hold yet.

    Args:
        job: the export of all recordings of the source.
        before: plan of the gallery's recordings.
        gallery: what is there.
    """

    def __init__(self, job: RecordingJob, before: RecordingPlan, gallery: Gallery) -> None:
        _check_settings(job, before)
        known = {line[0] for line in before.recordings}
        chosen = [n for n, one in enumerate(job.recordings) if one.live or job.plan.recordings[n][0] not in known]
        lines = tuple(job.plan.recordings[n] for n in chosen)
        files = tuple(job.plan.files[n] for n in chosen)
        super().__init__(
            job.output.path,
            job.output.format,
            [job.recordings[n] for n in chosen],
            job.finder,
            job.embedder,
            job.rows,
            replace(job.plan, recordings=lines, files=files),
            zone=job.zone,
            skipped=job.skipped,
        )
        self.whole = _joined(before, job.plan)
        self.replaces = pa.array([], KEY_TYPE)
        self.first_number = _next_number(gallery)
        self.num_known = len(job.recordings) - len(chosen)
        named = {line[0] for line in job.plan.recordings}
        self.missing = [
            source for source in known - named if source_name(before.source) == source_name(job.plan.source)
        ]

    def describe(self, gallery: Gallery) -> None:
        """Write which rows this source has brought, now and earlier."""
        earlier, name = read_exported(gallery.path), source_name(self.plan.source)
        own = earlier.filter(pa.array([other == name for other in earlier["source"].to_pylist()], pa.bool_()))
        parts = [keys_of(part.records, gallery.home) for part in self.finished_parts()]
        keys = pa.concat_arrays([own["key"].combine_chunks(), *parts])
        keys = keys.filter(pa.array(are_in(keys, gallery.live_keys())))
        write_exported(gallery.path, name, keys, keys, earlier)

    def skipped_lines(self, count: PartsCount) -> list[str]:
        """Return a line per video that could not be read."""
        return self.skipped

    def say(self, gallery: Gallery, count: PartsCount) -> None:
        """Log what was added, and which recordings are gone."""
        logger.info(
            "%s: %d new tracks of %d new recordings; %d recordings were there already; %d rows in all",
            *(gallery.path, count.added, len(self.recordings), self.num_known, len(gallery)),
        )
        log_left_out(gallery.path, count)
        if self.missing:
            names = ", ".join(sorted(self.missing)[:NAMED]) + ", …" * (len(self.missing) > NAMED)
            logger.warning(
                "%s: %d recordings are not in %s any more; their rows stay: %s",
                *(gallery.path, len(self.missing), self.plan.source, names),
            )


def as_update(job: RecordingJob, gallery: Gallery | None) -> RecordingJob:
    """Return the job that adds to a gallery what it lacks; `job` itself if there is no gallery, it is complete, or of images."""
    before = job.output.finished
    if gallery is None or job.is_done or not isinstance(before, RecordingPlan):
        return job
    return RecordingUpdateJob(job, before, gallery)


def _check_settings(job: RecordingJob, before: RecordingPlan) -> None:
    """Raise FileExistsError or UserError if new tracks would not go with those that are there; names the difference."""
    ours, theirs = ({line[0]: n for n, line in enumerate(plan.recordings)} for plan in (job.plan, before))
    shared = [source for source in theirs if source in ours]
    free = FREE if not shared or _boxes(before) <= _boxes(job.plan) else FREE - {"boxes"}
    names = {
        name for name in before.different_fields(job.plan) if name not in free and not name.startswith("recording ")
    }
    found = [text for text in before.differences(job.plan, files=False) if text.split(" was ")[0] in names]
    for source in shared:
        was, now = before.recordings[theirs[source]], job.plan.recordings[ours[source]]
        if was != now and not job.recordings[ours[source]].live:
            found.append(f"recording {was[1]} was {', '.join(was)}, is now {', '.join(now)}")
        if before.files[theirs[source]] != job.plan.files[ours[source]]:
            found.append(f"the video file {source} was changed since")
    if names or found:
        raise FileExistsError(
            f"--output: {job.output.path} holds another export: {'; '.join(found) or ', '.join(sorted(names))}; people would be "
            "there twice. Choose another name, or --overwrite it"
        )
    taken = {line[1]: line[0] for line in before.recordings}
    for recording, line in zip(job.recordings, job.plan.recordings, strict=True):
        if taken.get(line[1], line[0]) != line[0] and not recording.live:
            raise UserError(
                f"--input: {line[0]} and {taken[line[1]]}, which {job.output.path} holds, are both called {line[1]}, so their tracks "
                "would have the same names; rename one"
            )


def _boxes(plan: RecordingPlan) -> set[str]:
    found: Any = plan.settings.get("boxes")
    return set(found) if isinstance(found, list) else set()


def _joined(before: RecordingPlan, now: RecordingPlan) -> RecordingPlan:
    """Return the plan of the recordings of the source, and of the others that are there."""
    kept = [n for n, line in enumerate(before.recordings) if line not in now.recordings]
    settings = dict(now.settings)
    if boxes := _boxes(before) | _boxes(now):
        settings["boxes"] = sorted(boxes)
    return replace(
        now,
        recordings=(*now.recordings, *(before.recordings[n] for n in kept)),
        files=(*now.files, *(before.files[n] for n in kept)),
        settings=settings,
    )


def _next_number(gallery: Gallery) -> int:
    """Return a number that no thumbnail of the gallery starts with, nor any above it."""
    folder = gallery.path / TRACK_CROPS
    found = [re.match(r"(\d+)-", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(match[1]) for match in found if match), default=-1)
