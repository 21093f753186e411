"""What every update of a gallery does: embed what is new, add it in one step, say what became of the rest."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from ....common.errors import UserError
from ....common.files import write_text_atomically
from ....processor.embedding.embedder import Embedder
from ...keeping.row_keys import are_in, keys_of
from ...storage.file_names import EXPORT_PLAN, METADATA, SKIPPED
from ...storage.gallery import Gallery
from ..export_plan import Plan
from ..resumable_job import FOLDER, NAMED, ResumableJob
from ..work_folder import PartsCount, append_parts

logger = logging.getLogger(__name__)

ROWS = {"rows", "count", "part_size"}  # fields of a plan that say what is to be embedded


class Update(ResumableJob):
    """Adds to the gallery that is there; a class of this and of a job that embeds is a job.

    Attributes:
        whole: plan of all rows of the source, which the gallery then holds; None = rows are added by hand.
        replaces: keys of rows of the gallery that are embedded again.
    """

    whole: Plan | None
    replaces: pa.Array

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do; an update always compares."""
        return False

    @property
    def starts_anew(self) -> bool:
        """Whether the work folder holds an earlier update of other rows, which are chosen by what the gallery held then."""
        old = self.work.plan
        if old is None or type(old) is not type(self.plan):
            return False
        names = old.different_fields(self.plan)
        if names and all(name in ROWS or name.startswith("recording ") for name in names):
            logger.info("%s holds an unfinished update of other rows; it starts anew", self.work.folder)
            return True
        return False

    def check_output(self, overwrite: bool) -> None:
        """Nothing is replaced."""

    def join(self) -> None:
        """Add the parts to the gallery: all of them or, after a crash, none."""
        gallery = Gallery.open(self.output.path)
        with gallery.writing():
            check_same_model(gallery, self.embedder)
            count = self._append(gallery)
            skipped = self.skipped_lines(count)
            if self.whole is not None:
                self.describe(gallery)
                write_text_atomically(gallery.path / SKIPPED, "".join(f"{line}\n" for line in skipped))
                self.whole.write(gallery.path / EXPORT_PLAN)
        self.work.remove()
        for line in skipped[:NAMED]:
            logger.warning("left out: %s", line)
        self.say(gallery, count)
        self._update_threshold()

    def _append(self, gallery: Gallery) -> PartsCount:
        keys, live = gallery.keys(), gallery.is_live
        known = keys.filter(pa.array(live & ~are_in(keys, self.replaces)))
        added: list[pa.Array] = [known.slice(0, 0)]

        def choose(records: pa.Table) -> np.ndarray:
            own = keys_of(records, gallery.home)
            chosen = ~gallery.is_suppressed(own) & ~are_in(own, known)
            added.append(own.filter(pa.array(chosen)))
            return chosen

        def replaced() -> np.ndarray:
            taken = pa.concat_arrays(added)
            return gallery.ids[live & are_in(keys, self.replaces) & are_in(keys, taken)]

        return append_parts(gallery, self.finished_parts(), choose, at_once=True, replaced=replaced)

    def skipped_lines(self, count: PartsCount) -> list[str]:
        """Return a line per image or video that could not be read."""
        return count.skipped

    def say(self, gallery: Gallery, count: PartsCount) -> None:
        """Log what was added, and what became of the other rows of the source."""
        logger.info("%s: %d rows added, %d in all", gallery.path, count.added, len(gallery))


def gallery_to_update(output: Path, format: str, overwrite: bool, embedder: Embedder) -> Gallery | None:
    """Return the gallery that an export adds to; None = it makes one, or replaces it.

    Raises:
        UserError: its embeddings are by another model; names both.
    """
    if overwrite or format != FOLDER or not (output / METADATA).is_file():
        return None
    gallery = Gallery.open(output)
    check_same_model(gallery, embedder)
    return gallery


def check_same_model(gallery: Gallery, embedder: Embedder) -> None:
    """Raise UserError, naming both models, unless the embedder made the gallery's embeddings."""
    try:
        gallery.info.check_embedder(gallery.path, embedder)
    except UserError as error:
        raise UserError(f"--output: {error}, into another folder or with --overwrite") from error


def dtype_of(gallery: Gallery | None, dtype: str | None) -> str:
    """Return the type of the embeddings that are made: as asked for, else that of the gallery, else float32.

    Raises:
        UserError: the gallery has another type than the one asked for.
    """
    if gallery is None:
        return dtype or "float32"
    if dtype is not None and dtype != gallery.info.dtype:
        raise UserError(
            f"--dtype: {gallery.path} holds {gallery.info.dtype}, got {dtype}; leave --dtype out to add rows, or export into "
            "another folder or with --overwrite"
        )
    return gallery.info.dtype if gallery.info.dtype == "float16" else "float32"
