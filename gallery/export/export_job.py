"""Images -> a gallery on disk: streamed, resumable, shared among processes.

The source's rows are cut into parts. Each part is embedded and written, whole or not at all, into a work folder beside the
output; once all are there they are joined and take their place in one step. Batches never depend on where an earlier
attempt ended, so a killed export that is run again gives the same bytes.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import write_text_atomically
from ...datasets import CorruptImageError
from ...processor.distributed.process_group import Ranks, joined_ranks
from ...processor.embedding.embedder import Embedder
from .export_plan import make_plan
from .sources import Row, Source, open_source
from .work_folder import Part, Plan, Work

if TYPE_CHECKING:
    import pyarrow as pa

    from .. import Gallery

logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16")
CORRUPT = ("error", "skip")
FOLDER = "gallery"  # the format that is not one of gallery.formats.FORMATS
GALLERY, DONE, SKIPPED = "gallery.json", "export.json", "skipped.txt"  # in the gallery's folder
UNREADABLE = (CorruptImageError, FileNotFoundError, PermissionError, IsADirectoryError)  # not a disk that went away
JOIN_ROWS = 2**20  # records handed to the gallery at once: each time it writes all of them again


def export(
    weights: str | Path,
    source: str,
    output: str | Path,
    *,
    root: str | None = None,
    names: str | None = None,
    format: str = FOLDER,
    dtype: str = "float32",
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "auto",
    corrupt: str = "error",
    resume: bool = True,
    overwrite: bool = False,
) -> Path:
    """Embed every image of `source` into a gallery; run it again after an interruption, and it goes on.

    Memory does not grow with the number of images. Under torchrun each process embeds its share of the parts, and the
    first one joins them; all need the same disk.

    Args:
        weights: best.safetensors or last.pth of a run.
        source, root, names: what `open_source` takes.
        output: the gallery's folder, or, with another `format`, the file. OUTPUT.partial beside it holds unfinished work.
        format: "gallery", or one of `vitreid.gallery.maintenance.export_formats.FORMATS`.
        dtype: of the embeddings on disk, float32 or float16.
        batch_size: images per pass through the model.
        device, precision: as for `Embedder`.
        corrupt: what to do with an image that cannot be read: "error", or "skip", which lists them in skipped.txt.
        resume: go on with what an earlier call has done, finished or not; False begins anew.
        overwrite: replace an earlier gallery in `output`, and unfinished work that does not fit.
    Returns:
        The output's path.
    Raises:
        FileNotFoundError: no such weights or source; NotADirectoryError: `output` would lie in a file.
        FileExistsError: `output` holds something else, or this export as it was before images were replaced.
        ValueError: an option is wrong, a name does not fit the format, or unfinished work of another export is in the
            way; says which.
        CorruptImageError: an image cannot be read, unless `corrupt` is "skip".
    """
    output = Path(output)
    _check_options(str(output), format, dtype, corrupt)
    with joined_ranks() as ranks:
        opened = open_source(source, root, names)
        _check_columns(opened, format)
        embedder = Embedder(weights, device, precision, batch_size)
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        job = Job(output, format, corrupt, opened, embedder, make_plan(embedder, opened, source, dtype))
        job.run(ranks, resume, overwrite)
    return output


def _check_options(output: str, format: str, dtype: str, corrupt: str) -> None:
    """Raise, before the work rather than after, if its result could not be written."""
    from ..maintenance.export_formats import FORMATS

    for option, value, accepted in (
        ("--format", format, (FOLDER, *sorted(FORMATS))),
        ("--dtype", dtype, DTYPES),
        ("--corrupt", corrupt, CORRUPT),
    ):
        if value not in accepted:
            raise UserError(f"{option}: unknown value {value!r}; choose from {', '.join(accepted)}")
    if format == "faiss" and find_spec("faiss") is None:
        raise UserError('--format faiss needs FAISS: pip install "vitreid[faiss]", or choose another format')
    if output.startswith("milvus:"):
        raise UserError(f"--output: a folder or a file, got {output!r}; export to a folder, and copy that into Milvus")
    nearest = next(folder for folder in Path(output).absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"--output: {output} cannot be made, {nearest} is a file; choose another place")


def _check_columns(source: Source, format: str) -> None:
    """Raise ValueError, before the work rather than after, if the format has no place for a column."""
    from ..maintenance.export_formats import check_columns

    if format != FOLDER:
        check_columns(record_schema(source.extra).names, format)


@dataclass
class Job:
    """One export: from where, by what, to where."""

    output: Path
    format: str
    corrupt: str
    source: Source
    embedder: Embedder
    plan: Plan

    @property
    def work(self) -> Work:
        """The folder of unfinished work."""
        return Work(self.output.with_name(self.output.name + ".partial"))

    def run(self, ranks: Ranks, resume: bool = True, overwrite: bool = False) -> None:
        """Do what is left to do; the first process prepares and joins, all of them embed."""
        if not ranks.is_first:
            self._help(ranks)
        elif resume and not overwrite and self._is_done():
            self._finish()
            ranks.wait()
            ranks.wait()
        else:
            self._check_output(overwrite)
            with self.work.locked():
                self.work.begin(self.plan, resume, overwrite)
                ranks.wait()
                self.embed(ranks)
                ranks.wait()
                self.join()

    def _help(self, ranks: Ranks) -> None:
        ranks.wait()
        begun = self.work.plan
        if begun is not None and not begun.differences(self.plan, files=False):  # else nothing is left to do
            self.embed(ranks)
        ranks.wait()

    def _is_done(self) -> bool:
        finished = Plan.read(self.output / DONE)
        if finished is None or finished.differences(self.plan) or self.format != FOLDER:
            return False
        return self.corrupt == "skip" or not self._num_skipped()

    def _num_skipped(self) -> int:
        """Return how many images the finished gallery lacks because they could not be read."""
        file = self.output / SKIPPED
        return len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0

    def _finish(self) -> None:
        """Do what a finished export may still lack, and say what that was."""
        self.work.remove_rest(self.plan)
        self._update_threshold()
        if count := self._num_skipped():
            logger.warning(
                "%s holds this export without %d images that could not be read, and whose files are the same since (%s); "
                "--overwrite tries again",
                *(self.output, count, SKIPPED),
            )
        else:
            logger.info("%s holds this export already, nothing is left to do", self.output)

    def _update_threshold(self) -> None:
        """Give the finished gallery the threshold of weights that were calibrated after the export."""
        from .. import Gallery

        gallery, threshold = Gallery.open(self.output), self.embedder.threshold
        if threshold is None or gallery.info.threshold == threshold:
            return
        if gallery.info.metric != threshold["metric"]:
            logger.warning(
                "%s compares by %s, the weights' new threshold is for %s: left as it is; --overwrite exports it anew",
                *(self.output, gallery.info.metric, threshold["metric"]),
            )
            return
        gallery.set_info(threshold=threshold)
        logger.info("%s: the threshold is now that of the weights, which were calibrated since", self.output)

    def _check_output(self, overwrite: bool) -> None:
        """Raise FileExistsError if something is in the output's place that must not be replaced."""
        if not self.output.exists() or (self.output.is_dir() and not any(self.output.iterdir())):
            return
        is_ours = (self.output / GALLERY).is_file() or (self.format != FOLDER and self.output.is_file())
        if overwrite and is_ours:
            self._refuse_strangers()
            return
        remedy = "or --overwrite it" if is_ours else "it is no gallery, so it is never overwritten"
        raise FileExistsError(f"--output: {self.output} holds {self._what_is_there()}; choose another name, {remedy}")

    def _refuse_strangers(self) -> None:
        """Raise FileExistsError if the output's folder holds files that are not the gallery's own, such as images."""
        from ...common.replace_folder import OWN

        names = {item.name for item in self.output.iterdir()} if self.output.is_dir() else set()
        if strange := sorted(names - OWN - {DONE, SKIPPED}):
            raise FileExistsError(
                f"--overwrite: {self.output} also holds {strange[0]}, which is not the gallery's and would be lost "
                f"({len(strange)} such entries); move it away, or choose another --output"
            )

    def _what_is_there(self) -> str:
        found = Plan.read(self.output / DONE)
        if found is None:
            return "something else"
        if differences := found.differences(self.plan):
            return f"another export: {'; '.join(differences)}"
        count = self._num_skipped()
        return "this export" + (f" without {count} images that could not be read ({SKIPPED})" if count else " already")

    def embed(self, ranks: Ranks) -> None:
        """Embed this process' share of the parts that are not there yet."""
        numbers = range(ranks.rank, self.plan.num_parts, ranks.size)
        todo = {number for number in numbers if not self.work.has(number, self.plan, self.corrupt == "skip")}
        total, left = (sum(map(self.plan.size_of, which)) for which in (numbers, todo))
        if left < total:
            logger.info("%d of %d images are done already", total - left, total)
        hidden = None if ranks.is_first else True
        with tqdm(total=total, initial=total - left, desc="export", unit="image", disable=hidden) as bar:
            decoded = ahead(self._batches(todo), self._decode, self.source.num_readers)
            for number, batches in itertools.groupby(decoded, key=lambda batch: batch.part):
                self.work.save(number, self._part(batches, bar), self.plan)

    def _batches(self, todo: set[int]) -> Iterator[tuple[int, list[Row]]]:
        """Yield (part, rows) of each batch of the parts in `todo`, which may run ahead of the model."""
        if not todo:
            return
        rows = self.source.rows()
        for number in range(max(todo) + 1):
            part = itertools.islice(rows, self.plan.size_of(number))
            if number not in todo:
                deque(part, maxlen=0)
                continue
            while batch := list(itertools.islice(part, self.plan.batch_size)):
                yield number, batch

    def _decode(self, task: tuple[int, list[Row]]) -> Decoded:
        """Read the images of a batch; runs in a thread."""
        part, rows = task
        kept, planes, skipped = [], [], []
        for row in rows:
            try:
                planes.append(self.embedder.planes(self.source.read(row)))
                kept.append(row)
            except UNREADABLE as error:
                skipped.append(_reason(row, error))
                if self.corrupt == "error":
                    raise CorruptImageError(
                        f"{skipped[-1]}; replace the file or take it out of the source, or go on without it: --corrupt skip"
                    ) from error
        shape = (len(kept), 3, *self.embedder.preprocess.size)
        return Decoded(part, kept, np.stack(planes) if planes else np.empty(shape, np.uint8), skipped)

    def _part(self, batches: Iterable[Decoded], bar: tqdm) -> Part:
        """Embed the batches of one part."""
        blocks = [np.empty((0, self.embedder.dim), self.plan.dtype)]
        records: list[dict[str, Any]] = []
        skipped: list[str] = []
        for batch in batches:
            if batch.rows:
                blocks.append(self._embed(batch))
            records += [row.to_dict() for row in batch.rows]
            skipped += batch.skipped
            bar.update(len(batch.rows) + len(batch.skipped))
        return Part(np.concatenate(blocks), records, skipped)

    def _embed(self, batch: Decoded) -> np.ndarray:
        cameras, views = [row.camera for row in batch.rows], [row.view for row in batch.rows]
        with np.errstate(over="ignore"):  # what float16 cannot hold is found below
            embeddings = self.embedder.embed(batch.planes, cameras, views).astype(self.plan.dtype)
        is_bad = ~np.isfinite(embeddings).all(1)
        if is_bad.any():
            raise UserError(
                f"{batch.rows[int(is_bad.argmax())].path}: its embedding is not finite in {self.plan.precision} kept as "
                f"{self.plan.dtype}; try --precision fp32 --dtype float32, and test the weights"
            )
        return embeddings

    def join(self) -> None:
        """Put the parts together, and the result in the output's place."""
        from .. import Gallery

        joined = self.work.folder / "joined"
        shutil.rmtree(joined, ignore_errors=True)  # of an attempt that was killed
        info = replace(self.embedder.info, dtype=self.plan.dtype, created=self.plan.created)
        gallery = Gallery.create(joined, info)
        skipped = fill(gallery, self.work, self.plan, record_schema(self.source.extra))
        count = len(gallery)
        if not count:
            raise UserError(f"--input: none of the {len(skipped)} images could be read, the first: {skipped[0]}")
        if count + len(skipped) != self.plan.count:
            raise UserError(
                f"{self.plan.source} changed during the export: {self.plan.count} rows before, {count + len(skipped)} "
                "after; run it again with --no-resume"
            )
        write_text_atomically(joined / SKIPPED, "".join(f"{line}\n" for line in skipped))
        self.plan.write(joined / DONE)
        self._put(joined if self.format == FOLDER else self._converted(gallery))
        self.work.remove()
        dropped = f"; {len(skipped)} could not be read and were left out" if skipped else ""
        logger.info("%d images in %s (%d x %s)%s", count, self.output, info.dimension, info.dtype, dropped)
        for line in skipped[:5]:
            logger.warning("left out: %s", line)
        if len(skipped) > 5 and self.format == FOLDER:
            logger.warning("all of them: %s", self.output / SKIPPED)

    def _converted(self, gallery: Gallery) -> Path:
        from ..maintenance.export_formats import export_as

        path = self.work.folder / "converted" / self.output.name  # a writer may look at the suffix
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        export_as(gallery, path, self.format)
        return path

    def _put(self, result: Path) -> None:
        """Move the result into the output's place; what was there is deleted with the work folder."""
        if self.output.exists():
            self._refuse_strangers()  # they may have come during the export
            replaced = self.work.folder / "replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            replaced.mkdir()
            os.replace(self.output, replaced / self.output.name)
        os.replace(result, self.output)


class Decoded(NamedTuple):
    """A batch on its way to the model: its part, the rows read, their (B, 3, H, W) uint8 pixels, and what was not read."""

    part: int
    rows: list[Row]
    planes: np.ndarray
    skipped: list[str]


def ahead(tasks: Iterable[Any], work: Any, num_threads: int) -> Iterator[Any]:
    """Yield work(task) for each task, in order, computed in threads a few tasks ahead of the caller."""
    pool, waiting = ThreadPoolExecutor(num_threads), deque[Future[Any]]()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > num_threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _reason(row: Row, error: Exception) -> str:
    """Return the file and what is wrong with it, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{row.path}: {error.strerror}"
    return str(error).split("; replace or delete")[0]


def record_schema(extra: dict[str, type]) -> pa.Schema:
    """Return the columns of a gallery's records."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    own = {"id": int, "path": str, "pid": str, "camera": str, "view": str, "time": float, "tracklet": str}
    return pa.schema([(name, types[kind]) for name, kind in {**own, **extra}.items()])


def fill(gallery: Gallery, work: Work, plan: Plan, schema: pa.Schema) -> list[str]:
    """Put the parts into a new gallery, their embeddings one part at a time; return what the parts left out."""
    import pyarrow as pa

    skipped: list[str] = []
    step = max(1, JOIN_ROWS // plan.part_size)
    for start in range(0, plan.num_parts, step):
        numbers, tables = range(start, min(start + step, plan.num_parts)), []
        first = len(gallery)
        for number in numbers:
            records, unread = work.load_records(number)
            rows = [{"id": first + place, **record} for place, record in enumerate(records)]
            tables.append(pa.Table.from_pylist(rows, schema))
            first, skipped = first + len(rows), skipped + unread
        gallery.append((work.load_embeddings(number) for number in numbers), tables)
    return skipped
