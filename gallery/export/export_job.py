"""Export images to a gallery on disk: streamed, resumable, shared by several processes.

The source's rows are divided into parts. Each part is embedded and written atomically into a work folder next to the
output; when all exist they are joined, and the result replaces the output in one step. Batches do not depend on where an
earlier attempt ended, so a killed export gives the same bytes when it is run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from ...common.errors import UserError
from ...labels.name_options import NameOptions
from ...processor.distributed.process_group import Ranks, joined_ranks
from ...processor.embedding.embedder import Embedder
from ...tracking.recording_tracks import TrackOptions
from ..keeping.retention import SECONDS, expire
from ..keeping.suppress_list import KEPT_OUT
from ..maintenance.export_formats import FORMATS, check_columns
from ..search.faiss_index import import_faiss
from ..storage.gallery import Gallery
from .embed_parts import PartEmbedder
from .export_plan import ExportPlan, RecordingPlan, make_plan
from .recording_job import RecordingJob, RecordingOptions
from .resumable_job import FOLDER, NAMED, ExportOutput, ResumableJob
from .source_rows import Source, record_schema
from .sources import boxes_in_pictures, open_source, sequence_of
from .updates.overwrite_loss import check_loss
from .updates.recording_update import as_update
from .updates.source_scan import ChosenRows, Comparison, SourceKeys, scan, write_found
from .updates.update_job import Update, dtype_of, gallery_to_update
from .work_folder import FinishedPart, PartsCount, PartsFolder, append_parts, log_left_out

logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16")
CORRUPT = ("error", "skip")


def export(
    weights: str | Path,
    source: str,
    output: str | Path,
    *,
    root: str | None = None,
    names: NameOptions | str | None = None,
    format: str = FOLDER,
    dtype: str | None = None,
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "auto",
    corrupt: str = "error",
    resume: bool = True,
    overwrite: bool = False,
    confirmed: bool = True,
    options: Mapping[str, Any] | None = None,
    frames_from: int = 0,
    recordings: RecordingOptions | None = None,
    expire_after: float | None = None,
) -> Path:
    """Embed every image, or every track, of `source` into a gallery; after an interruption, run it again and it resumes.

    A gallery of this model that is there gets what is new, and images that changed are embedded again. Rows removed from it stay
    out; rows that the source does not name any more stay and are reported. Memory does not grow with the number of images. Under
    torchrun each rank does a share, and rank 0 joins the parts; all ranks need the same disk.

    Args:
        weights, options: as for `Embedder`.
        source, root, names: arguments of `open_source`.
        output, format, dtype, corrupt, overwrite, confirmed, expire_after: as for `ExportTarget`.
        batch_size, device, precision: images per pass through the model, and as for `Embedder`.
        resume: use the finished or unfinished work of an earlier call; False starts anew.
        frames_from: number of a video's first frame in a CSV file of boxes.
        recordings: follow people through the recordings that `source` names, as `list_recordings` takes them.
    Returns:
        The output's path.
    Raises:
        FileNotFoundError, NotADirectoryError: no such weights or source, or `output` would lie in a file.
        FileExistsError: `output` holds something else, or what an `overwrite` that is not confirmed would drop.
        ValueError: an option is wrong, a name does not fit the format, or the gallery or the work is of another export; names it.
        CorruptImageError: an image cannot be read, unless `corrupt` is "skip".
    """
    target = ExportTarget(Path(output), format, dtype, corrupt, overwrite, confirmed, expire_after)
    if recordings is None and (sequence := sequence_of(source)):
        source, recordings = sequence[0], RecordingOptions(TrackOptions(boxes=sequence[1]))
    pictures = boxes_in_pictures(source, recordings.tracks) if recordings else None
    load = partial(Embedder, weights, device, precision, batch_size, options)
    with joined_ranks() as ranks:
        if recordings is None or pictures:
            opened = pictures or open_source(source, root, names, frames_from, corrupt == "skip")
            target.run(target.image_job(opened, load, source), ranks, resume)
        else:
            target.run(target.recording_job(recordings, load, source), ranks, resume)
    return target.output


@dataclass(frozen=True)
class ExportTarget:
    """What an export writes, and what it does with a gallery that is there.

    Args:
        output: the gallery's folder, or, with another `format`, the file. OUTPUT.partial next to it holds unfinished work.
        format: "gallery", or one of `vitreid.gallery.maintenance.export_formats.FORMATS`.
        dtype: type of the embeddings on disk, float32 or float16; None = float32, or that of the gallery that is there.
        corrupt: reaction to an image that cannot be read: "error", or "skip", which lists it in skipped.txt.
        overwrite: replace an earlier gallery, and unfinished work of another export; otherwise rows are added to it.
        confirmed: with `overwrite`, only log what is dropped; False = raise FileExistsError, which says it.
        expire_after: in the end remove rows whose time is more seconds ago; they stay out from then on. None = keep them.
    Raises:
        UserError, NotADirectoryError: the result could not be written with these options.
    """

    output: Path
    format: str = FOLDER
    dtype: str | None = None
    corrupt: str = "error"
    overwrite: bool = False
    confirmed: bool = True
    expire_after: float | None = None

    def __post_init__(self) -> None:
        for option, value, accepted in (
            ("--format", self.format, (FOLDER, *sorted(FORMATS))),
            ("--dtype", self.dtype or DTYPES[0], DTYPES),
            ("--corrupt", self.corrupt, CORRUPT),
        ):
            if value not in accepted:
                raise UserError(f"{option}: unknown value {value!r}; choose from {', '.join(accepted)}")
        if self.format == "faiss":
            import_faiss("--format faiss", "or choose another format")
        if self.expire_after is not None and self.format != FOLDER:
            raise UserError("--expire-after: only a gallery forgets rows; leave --format or --expire-after out")
        if str(self.output).startswith("milvus:"):
            raise UserError(
                f"--output: a folder or a file, got {str(self.output)!r}; export to a folder, then copy it: vitreid gallery "
                "to-milvus"
            )
        nearest = next(folder for folder in self.output.absolute().parents if folder.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(
                f"--output: {self.output} cannot be made, {nearest} is a file; choose another place"
            )

    def image_job(self, opened: Source, load: Callable[[], Embedder], text: str) -> ExportJob:
        """Return the job that exports the images of a source, given as `text` by the user."""
        if self.format != FOLDER:
            check_columns(record_schema(opened.extra).names, self.format)
        embedder = load()
        gallery = gallery_to_update(self.output, self.format, self.overwrite, embedder)
        kind = dtype_of(gallery, self.dtype)
        plan = make_plan(embedder, opened, text, kind)
        job = ExportJob(self.output, self.format, self.corrupt, opened, embedder, plan)
        if gallery is None or job.is_done or isinstance(job.output.finished, RecordingPlan):
            return job
        return ImageUpdateJob(self.output, self.corrupt, opened, embedder, text, kind, gallery, plan)

    def recording_job(self, recordings: RecordingOptions, load: Callable[[], Embedder], text: str) -> RecordingJob:
        """Return the job that exports the recordings of a source, given as `text` by the user."""
        embedder, detector = recordings.open_models(load)
        gallery = gallery_to_update(self.output, self.format, self.overwrite, embedder)
        kind = dtype_of(gallery, self.dtype)
        return as_update(
            recordings.job(text, self.output, self.format, embedder, kind, self.corrupt == "skip", detector), gallery
        )

    def run(self, job: ResumableJob, ranks: Ranks, resume: bool) -> None:
        """Do the job; before, say what is dropped, and afterwards let old rows expire."""
        if self.overwrite and self.format == FOLDER:
            check_loss(self.output, job.found if isinstance(job, ExportJob) else None, self.confirmed)
        self.output.absolute().parent.mkdir(parents=True, exist_ok=True)
        job.run(ranks, resume, self.overwrite)
        if self.expire_after is None or not ranks.is_first:
            return
        if count := expire(Gallery.open(self.output), self.expire_after):
            logger.info(
                "%s: %d rows were older than %g days and are removed; vitreid gallery compact takes their embeddings off the "
                "disk",
                *(self.output, count, self.expire_after / SECONDS["d"]),
            )


class ExportJob(ResumableJob):
    """One export of the images of `source`."""

    plan: ExportPlan
    work: PartsFolder

    def __init__(
        self, output: Path, format: str, corrupt: str, source: Source, embedder: Embedder, plan: ExportPlan
    ) -> None:
        work = PartsFolder(output.with_name(output.name + ".partial"))
        super().__init__(ExportOutput(output, format), work, embedder, plan, corrupt == "skip")
        self.source = source

    def embed(self, ranks: Ranks) -> None:
        """Embed the missing parts of this rank's share."""
        if ranks.is_first:
            _ = self.found  # before the images are read, so that a later change of theirs is noticed
        numbers = range(ranks.rank, self.plan.num_parts, ranks.size)
        todo = {number for number in numbers if not self.work.has(number, self.plan, self.skips)}
        total, left = (sum(map(self.plan.size_of, which)) for which in (numbers, todo))
        if left < total:
            logger.info("%d of %d images are done already", total - left, total)
        hidden = None if ranks.is_first else True
        with tqdm(total=total, initial=total - left, desc="export", unit="image", disable=hidden) as bar:
            parts = PartEmbedder(self.source, self.embedder, self.plan, self.skips).parts(todo, bar.update)
            for number, part in parts:
                self.work.save(number, part, self.plan)

    def fill(self, gallery: Gallery) -> list[str]:
        """Append all parts to the new gallery; return the skipped lines."""
        count = append_parts(gallery, self.finished_parts(), gallery.admitted)
        total = count.added + count.left_out
        if not total:
            raise UserError(
                f"--input: none of the {len(count.skipped)} images could be read, the first: {count.skipped[0]}"
            )
        if total + len(count.skipped) != self.plan.count:
            raise UserError(
                f"{self.plan.source} changed during the export: {self.plan.count} rows before, {total + len(count.skipped)} "
                "after; run it again with --no-resume"
            )
        log_left_out(self.output.path, count)
        return count.skipped

    def finished_parts(self) -> Iterator[FinishedPart]:
        """Yield the embedded parts."""
        return self.work.parts(self.plan, record_schema(self.source.extra))

    @cached_property
    def found(self) -> SourceKeys:
        """The rows of the source by their keys."""
        return scan(self.source, self.plan.source)

    def describe(self, gallery: Gallery) -> None:
        """Write which rows this export has brought."""
        write_found(gallery, self.found)


class ImageUpdateJob(Update, ExportJob):
    """One update of a gallery from the images of a source.

    Args:
        output, corrupt, source, embedder, dtype: as for an export.
        text: the source as given by the user.
        gallery: what is there.
        whole: plan of all rows of the source; None = they are added by hand.
    """

    def __init__(
        self,
        output: Path,
        corrupt: str,
        source: Source,
        embedder: Embedder,
        text: str,
        dtype: str,
        gallery: Gallery,
        whole: ExportPlan | None,
    ) -> None:
        self.found, self.whole = scan(source, text), whole
        self.compared = Comparison(gallery, self.found)
        chosen = ChosenRows(source, self.compared.new | self.compared.changed)
        plan = make_plan(embedder, chosen, text, dtype, may_be_empty=True)
        super().__init__(output, FOLDER, corrupt, chosen, embedder, plan)
        self.replaces = self.found.keys.filter(pa.array(self.compared.changed))

    def say(self, gallery: Gallery, count: PartsCount) -> None:
        """Log what was added, and what became of the other rows of the source."""
        compared, text = self.compared, self.plan.source
        changed = int(compared.changed.sum())
        logger.info(
            "%s: %d new rows from %s, %d were there already, %d embedded again since their images changed; %d rows in all",
            *(gallery.path, count.added - changed, text, compared.present.sum(), changed, len(gallery)),
        )
        if suppressed := int(compared.suppressed.sum()):
            logger.warning(KEPT_OUT, gallery.path, suppressed, len(self.found.keys))
        if self.whole is not None and len(missing := compared.missing):
            names = ", ".join(row["path"] for row in compared.gallery.rows_of(missing[:NAMED]))
            more = ", …" * (len(missing) > NAMED)
            logger.warning(
                "%s: %d rows came from %s, which does not name them any more; they stay: %s%s",
                *(gallery.path, len(missing), text, names, more),
            )
