"""What every export does: check the output, share the work among processes, join the parts, replace the output in one step."""

from __future__ import annotations

import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...common.files import write_text_atomically
from ...common.inputs.regular_files import JSON_BYTES, read_text
from ...common.locks import FILE as LOCK
from ...common.locks import WriterLock
from ...processor.distributed.process_group import Ranks
from ...processor.embedding.embedder import Embedder
from ..maintenance.export_formats import export_as
from ..storage.file_names import EXPORT_PLAN, EXPORTED_FILES, METADATA, SKIPPED, TRACK_CROPS
from ..storage.gallery import Gallery
from ..storage.metadata import GalleryInfo
from .export_plan import Plan, RecordingPlan, read_plan
from .work_folder import FinishedPart, WorkFolder

logger = logging.getLogger(__name__)

FOLDER = "gallery"  # the format that is a folder; FORMATS are files
NAMED = 5  # skipped images named in the log


@dataclass(frozen=True)
class ExportOutput:
    """The file or folder of an export's result, and its present contents."""

    path: Path
    format: str

    @property
    def finished(self) -> Plan | None:
        """The plan of a finished export; None if the output is no exported gallery."""
        return read_plan(self.path / EXPORT_PLAN)

    @property
    def num_skipped(self) -> int:
        """Number of images that the finished gallery lacks because they could not be read."""
        file = self.path / SKIPPED
        return len(read_text(file, JSON_BYTES).splitlines()) if file.is_file() else 0

    def is_done(self, plan: Plan, skips: bool) -> bool:
        """Return whether the output is the finished export of this plan."""
        if self.finished is None or self.finished.differences(plan) or self.format != FOLDER:
            return False
        return skips or not self.num_skipped

    def check_replaceable(self, plan: Plan, overwrite: bool) -> None:
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
        own = EXPORTED_FILES | ({TRACK_CROPS} if isinstance(self.finished, RecordingPlan) else set())
        if foreign := sorted(names - own):
            raise FileExistsError(
                f"--overwrite: {self.path} also holds {foreign[0]}, which is not the gallery's and would be lost "
                f"({len(foreign)} such entries); move it away, or choose another --output"
            )

    def _contents(self, plan: Plan) -> str:
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


class ResumableJob(ABC):
    """One export to `output`: subclasses embed the parts and fill the gallery with them.

    Args:
        output: the result and its format.
        work: unfinished work.
        embedder, plan: the model, and what is to be done.
        skips: leave out what cannot be read; False = raise.
    """

    unit = "images"

    def __init__(self, output: ExportOutput, work: WorkFolder, embedder: Embedder, plan: Plan, skips: bool) -> None:
        self.output, self.work, self.embedder, self.plan, self.skips = output, work, embedder, plan, skips

    @abstractmethod
    def embed(self, ranks: Ranks) -> None:
        """Embed the missing parts of this rank's share."""

    @abstractmethod
    def fill(self, gallery: Gallery) -> list[str]:
        """Append all parts to the new gallery; return a line per image or video that was left out."""

    @abstractmethod
    def finished_parts(self) -> Iterator[FinishedPart]:
        """Yield what was embedded, from the work folder."""

    @abstractmethod
    def describe(self, gallery: Gallery) -> None:
        """Write which rows this export has brought."""

    def run(self, ranks: Ranks, resume: bool = True, overwrite: bool = False) -> None:
        """Do the remaining work: rank 0 prepares and joins, all ranks embed."""
        if not ranks.is_first:
            self._help(ranks)
        elif resume and not overwrite and self.is_done:
            self._finish()
            ranks.wait()
            ranks.wait()
        else:
            self.check_output(overwrite)
            self.output.check_unlocked()
            with self.work.locked():
                self.work.begin(self.plan, resume and not self.starts_anew, overwrite)
                ranks.wait()
                self.embed(ranks)
                ranks.wait()
                self.join()

    def check_output(self, overwrite: bool) -> None:
        """Raise FileExistsError if something is there that must not be replaced."""
        self.output.check_replaceable(self.plan, overwrite)

    @property
    def is_done(self) -> bool:
        """Whether the output is the finished export of the plan."""
        return self.output.is_done(self.plan, self.skips)

    @property
    def starts_anew(self) -> bool:
        """Whether unfinished work is of no use."""
        return False

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
        if self.embedder.thresholds and gallery.info.thresholds != self.embedder.thresholds:
            gallery.set_info(thresholds=self.embedder.thresholds)
            logger.info("%s: the thresholds for processed embeddings are now those of the weights", self.output.path)
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
        logger.info("%d %s in %s (%d x %s)%s", count, self.unit, self.output.path, info.dimension, info.dtype, dropped)
        for line in skipped[:NAMED]:
            logger.warning("left out: %s", line)
        if len(skipped) > NAMED and self.output.format == FOLDER:
            logger.warning("all of them: %s", self.output.path / SKIPPED)

    def _fill(self, gallery: Gallery) -> None:
        """Add the parts to an empty gallery, with the files that describe them."""
        skipped = self.fill(gallery)
        self.describe(gallery)
        write_text_atomically(gallery.path / SKIPPED, "".join(f"{line}\n" for line in skipped))
        self.plan.write(gallery.path / EXPORT_PLAN)
