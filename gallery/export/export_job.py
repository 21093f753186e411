"""Export images to a gallery on disk: streamed, resumable, shared by several processes.

The source's rows are divided into parts. Each part is embedded and written atomically into a work folder next to the
output; when all exist they are joined, and the result replaces the output in one step. Batches do not depend on where an
earlier attempt ended, so a killed export gives the same bytes when it is run again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import write_text_atomically
from ...common.locks import FILE as LOCK
from ...common.locks import WriterLock
from ...common.regular_files import JSON_BYTES, read_text
from ...labels.name_options import NameOptions
from ...processor.distributed.process_group import Ranks, joined_ranks
from ...processor.embedding.embedder import Embedder
from ..maintenance.export_formats import FORMATS, check_columns, export_as
from ..search.faiss_index import import_faiss
from ..storage.file_names import EXPORT_PLAN, METADATA, REPLACED_FILES, SKIPPED
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo
from .embed_parts import PartEmbedder
from .export_plan import ExportPlan, make_plan
from .sources import Source, open_source, record_schema
from .work_folder import WorkFolder

logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16")
CORRUPT = ("error", "skip")
FOLDER = "gallery"  # the format that is a folder; FORMATS are files
NAMED = 5  # skipped images named in the log


def export(
    weights: str | Path,
    source: str,
    output: str | Path,
    *,
    root: str | None = None,
    names: str | None = None,
    camera_pattern: str | None = None,
    time_pattern: str | None = None,
    format: str = FOLDER,
    dtype: str = "float32",
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "auto",
    corrupt: str = "error",
    resume: bool = True,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Embed every image of `source` into a gallery; after an interruption, run it again and it resumes.

    Memory does not grow with the number of images. Under torchrun each rank embeds its share of the parts, and rank 0
    joins them; all ranks need the same disk.

    Args:
        weights, options: as for `Embedder`.
        source, root: arguments of `open_source`.
        names, camera_pattern, time_pattern: what the names of image files say, see `NameOptions`.
        output: the gallery's folder, or, with another `format`, the file. OUTPUT.partial next to it holds unfinished work.
        format: "gallery", or one of `vitreid.gallery.maintenance.export_formats.FORMATS`.
        dtype: type of the embeddings on disk, float32 or float16.
        batch_size: images per pass through the model.
        device, precision: as for `Embedder`.
        corrupt: reaction to an image that cannot be read: "error", or "skip", which lists it in skipped.txt.
        resume: use the finished or unfinished work of an earlier call; False starts anew.
        overwrite: replace an earlier gallery in `output`, and unfinished work of another export.
    Returns:
        The output's path.
    Raises:
        FileNotFoundError: no such weights or source; NotADirectoryError: `output` would lie in a file.
        FileExistsError: `output` holds something else, or this export before images were replaced.
        ValueError: an option is wrong, a name does not fit the format, or the work folder holds another export; names it.
        CorruptImageError: an image cannot be read, unless `corrupt` is "skip".
    """
    output = Path(output)
    _check_options(str(output), format, dtype, corrupt)
    with joined_ranks() as ranks:
        opened = open_source(source, root, NameOptions(names, camera_pattern, time_pattern))
        if format != FOLDER:
            check_columns(record_schema(opened.extra).names, format)
        embedder = Embedder(weights, device, precision, batch_size, options)
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        job = ExportJob(output, format, corrupt, opened, embedder, make_plan(embedder, opened, source, dtype))
        job.run(ranks, resume, overwrite)
    return output


def _check_options(output: str, format: str, dtype: str, corrupt: str) -> None:
    """Refuse before the work options with which the result could not be written."""
    for option, value, accepted in (
        ("--format", format, (FOLDER, *sorted(FORMATS))),
        ("--dtype", dtype, DTYPES),
        ("--corrupt", corrupt, CORRUPT),
    ):
        if value not in accepted:
            raise UserError(f"{option}: unknown value {value!r}; choose from {', '.join(accepted)}")
    if format == "faiss":
        import_faiss("--format faiss", "or choose another format")
    if output.startswith("milvus:"):
        raise UserError(
            f"--output: a folder or a file, got {output!r}; export to a folder, then copy it: vitreid gallery to-milvus"
        )
    nearest = next(folder for folder in Path(output).absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"--output: {output} cannot be made, {nearest} is a file; choose another place")


@dataclass(frozen=True)
class ExportOutput:
    """The file or folder of an export's result, and its present contents."""

    path: Path
    format: str

    @property
    def finished(self) -> ExportPlan | None:
        """The plan of a finished export; None if the output is no exported gallery."""
        return ExportPlan.read(self.path / EXPORT_PLAN)

    @property
    def num_skipped(self) -> int:
        """Number of images that the finished gallery lacks because they could not be read."""
        file = self.path / SKIPPED
        return len(read_text(file, JSON_BYTES).splitlines()) if file.is_file() else 0

    def is_done(self, plan: ExportPlan, skips: bool) -> bool:
        """Return whether the output is the finished export of this plan."""
        if self.finished is None or self.finished.differences(plan) or self.format != FOLDER:
            return False
        return skips or not self.num_skipped

    def check_replaceable(self, plan: ExportPlan, overwrite: bool) -> None:
        """Raise FileExistsError if something is there that must not be replaced."""
        if not self.path.exists() or (self.path.is_dir() and {item.name for item in self.path.iterdir()} <= {LOCK}):
            return
        is_ours = (self.path / METADATA).is_file() or (self.format != FOLDER and self.path.is_file())
        if overwrite and is_ours:
            self.refuse_foreign_files()
            return
        remedy = "or --overwrite it" if is_ours else "it is no gallery, so it is never overwritten"
        raise FileExistsError(f"--output: {self.path} holds {self._contents(plan)}; choose another name, {remedy}")

    def refuse_foreign_files(self) -> None:
        """Raise FileExistsError if the output's folder also holds files of the user, such as images."""
        names = {item.name for item in self.path.iterdir()} if self.path.is_dir() else set()
        if foreign := sorted(names - REPLACED_FILES):
            raise FileExistsError(
                f"--overwrite: {self.path} also holds {foreign[0]}, which is not the gallery's and would be lost "
                f"({len(foreign)} such entries); move it away, or choose another --output"
            )

    def _contents(self, plan: ExportPlan) -> str:
        if self.finished is None:
            return "something else"
        if differences := self.finished.differences(plan):
            return f"another export: {'; '.join(differences)}"
        count = self.num_skipped
        return "this export" + (f" without {count} images that could not be read ({SKIPPED})" if count else " already")

    def check_unlocked(self) -> None:
        """Raise BlockingIOError, before the work, if another process is writing into the gallery to be replaced."""
        if self.format == FOLDER and self.path.is_dir():
            with WriterLock(self.path):
                pass


class ExportJob:
    """One export of `source` with `embedder` to `output`, under a plan."""

    def __init__(
        self, output: Path, format: str, corrupt: str, source: Source, embedder: Embedder, plan: ExportPlan
    ) -> None:
        self.output, self.work = ExportOutput(output, format), WorkFolder(output.with_name(output.name + ".partial"))
        self.source, self.embedder, self.plan, self.skips = source, embedder, plan, corrupt == "skip"

    def run(self, ranks: Ranks, resume: bool = True, overwrite: bool = False) -> None:
        """Do the remaining work: rank 0 prepares and joins, all ranks embed."""
        if not ranks.is_first:
            self._help(ranks)
        elif resume and not overwrite and self.output.is_done(self.plan, self.skips):
            self._finish()
            ranks.wait()
            ranks.wait()
        else:
            self.output.check_replaceable(self.plan, overwrite)
            self.output.check_unlocked()
            with self.work.locked():
                self.work.begin(self.plan, resume, overwrite)
                ranks.wait()
                self.embed(ranks)
                ranks.wait()
                self.join()

    def _help(self, ranks: Ranks) -> None:
        """Embed a share of the parts, on ranks other than 0."""
        ranks.wait()
        current = self.work.plan
        if current is not None and not current.differences(self.plan, files=False):  # else the export is finished
            self.embed(ranks)
        ranks.wait()

    def _finish(self) -> None:
        """Complete a finished export: remains of a killed call, a newer threshold; log the result."""
        self.work.remove_rest(self.plan)
        self._update_threshold()
        if count := self.output.num_skipped:
            logger.warning(
                "%s holds this export without %d images that could not be read; their files have not changed since (%s); "
                "--overwrite tries again",
                *(self.output.path, count, SKIPPED),
            )
        else:
            logger.info("%s holds this export already, nothing is left to do", self.output.path)

    def _update_threshold(self) -> None:
        """Copy the threshold of weights that were calibrated after the export to the finished gallery."""
        gallery, threshold = Gallery.open(self.output.path), self.embedder.threshold
        if threshold is None or gallery.info.threshold == threshold:
            return
        if gallery.info.metric != threshold["metric"]:
            logger.warning(
                "%s compares by %s, the weights' new threshold is for %s: left as it is; --overwrite exports it anew",
                *(self.output.path, gallery.info.metric, threshold["metric"]),
            )
            return
        gallery.set_info(threshold=threshold)
        logger.info("%s: the threshold is now that of the weights, which were calibrated since", self.output.path)

    def embed(self, ranks: Ranks) -> None:
        """Embed the missing parts of this rank's share."""
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

    def join(self) -> None:
        """Join the parts to a gallery, or a file of another format, which replaces the output in one step."""
        info = replace(GalleryInfo.of(self.embedder), dtype=self.plan.dtype, created=self.plan.created)
        if self.output.format == FOLDER:
            self.output.refuse_foreign_files()  # they may have appeared during the export
            gallery = Gallery.build(self.output.path, info, self._fill, overwrite=True)
        else:
            joined = self.work.folder / "joined"
            shutil.rmtree(joined, ignore_errors=True)  # left by a killed call
            gallery = Gallery.create(joined, info)
            self._fill(gallery)
            export_as(gallery, self.output.path, self.output.format)
        count, skipped = len(gallery), read_text(gallery.path / SKIPPED, JSON_BYTES).splitlines()
        self.work.remove()
        dropped = f"; {len(skipped)} could not be read and were left out" if skipped else ""
        logger.info("%d images in %s (%d x %s)%s", count, self.output.path, info.dimension, info.dtype, dropped)
        for line in skipped[:NAMED]:
            logger.warning("left out: %s", line)
        if len(skipped) > NAMED and self.output.format == FOLDER:
            logger.warning("all of them: %s", self.output.path / SKIPPED)

    def _fill(self, gallery: Gallery) -> None:
        """Add the parts to an empty gallery, with the files that describe them."""
        skipped = self.work.fill(gallery, self.plan, record_schema(self.source.extra))
        self._check_count(len(gallery), skipped)
        write_text_atomically(gallery.path / SKIPPED, "".join(f"{line}\n" for line in skipped))
        self.plan.write(gallery.path / EXPORT_PLAN)

    def _check_count(self, count: int, skipped: list[str]) -> None:
        if not count:
            raise UserError(f"--input: none of the {len(skipped)} images could be read, the first: {skipped[0]}")
        if count + len(skipped) != self.plan.count:
            raise UserError(
                f"{self.plan.source} changed during the export: {self.plan.count} rows before, {count + len(skipped)} "
                "after; run it again with --no-resume"
            )
