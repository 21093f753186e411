"""Embed the parts of an export: threads decode the images of the next batches while the model embeds the current one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...common.errors import UserError
from ...common.prefetch import prefetch
from ...datasets import CorruptImageError
from ...processor.embedding.embedder import Embedder
from .export_plan import ExportPlan
from .source_rows import Source, SourceRow
from .work_folder import ExportPart

UNREADABLE = (CorruptImageError, FileNotFoundError, PermissionError, IsADirectoryError)  # not a failing disk


class DecodedBatch(NamedTuple):
    """Input of one pass: number of its part, rows, (B, 3, H, W) uint8 pixels, and a line per image that was not read."""

    part: int
    rows: list[SourceRow]
    planes: np.ndarray
    skipped: list[str]


@dataclass(frozen=True)
class PartEmbedder:
    """Embeds parts of the plan.

    Args:
        source, embedder, plan: the images, the model, and the division into parts and batches.
        skips: leave out images that cannot be read; False = raise.
    """

    source: Source
    embedder: Embedder
    plan: ExportPlan
    skips: bool

    def parts(self, numbers: set[int], advance: Callable[[int], object]) -> Iterator[tuple[int, ExportPart]]:
        """Yield (number, part) of the parts with these numbers.

        Args:
            advance: called with the number of images of each finished batch.
        Raises:
            CorruptImageError: an image cannot be read, unless `skips`.
            ValueError: an embedding is not finite; names the image.
        """
        decoded = prefetch(self._decode, self._batches(numbers), self.source.num_readers)
        for number, batches in itertools.groupby(decoded, key=lambda batch: batch.part):
            yield number, self._part(batches, advance)

    def _batches(self, numbers: set[int]) -> Iterator[tuple[int, list[SourceRow]]]:
        """Yield (part, rows) of each batch; the threads that decode them are ahead of the model."""
        if not numbers:
            return
        rows = self.source.rows()
        for number in range(max(numbers) + 1):
            part = itertools.islice(rows, self.plan.size_of(number))
            if number not in numbers:
                deque(part, maxlen=0)
                continue
            while batch := list(itertools.islice(part, self.plan.batch_size)):
                yield number, batch

    def _decode(self, task: tuple[int, list[SourceRow]]) -> DecodedBatch:
        """Read the images of a batch; runs in a thread."""
        part, rows = task
        kept, planes, skipped = [], [], []
        for row in rows:
            try:
                planes.append(self.embedder.planes(self.source.read(row)))
                kept.append(row)
            except UNREADABLE as error:
                skipped.append(_reason(row, error))
                if not self.skips:
                    raise CorruptImageError(
                        f"{skipped[-1]}; replace the file or take it out of the source, or leave it out: --corrupt skip"
                    ) from error
        shape = (len(kept), 3, *self.embedder.preprocess.size)
        return DecodedBatch(part, kept, np.stack(planes) if planes else np.empty(shape, np.uint8), skipped)

    def _part(self, batches: Iterable[DecodedBatch], advance: Callable[[int], object]) -> ExportPart:
        blocks = [np.empty((0, self.embedder.dim), self.plan.dtype)]
        records: list[dict[str, Any]] = []
        skipped: list[str] = []
        for batch in batches:
            if batch.rows:
                blocks.append(self._embed(batch))
            records += [row.to_dict() for row in batch.rows]
            skipped += batch.skipped
            advance(len(batch.rows) + len(batch.skipped))
        return ExportPart(np.concatenate(blocks), records, skipped)

    def _embed(self, batch: DecodedBatch) -> np.ndarray:
        cameras, views = [row.camera for row in batch.rows], [row.view for row in batch.rows]
        with np.errstate(over="ignore"):  # values beyond float16 become infinite and are reported below
            embeddings = self.embedder.embed(batch.planes, cameras, views).astype(self.plan.dtype)
        is_bad = ~np.isfinite(embeddings).all(1)
        if is_bad.any():
            raise UserError(
                f"{batch.rows[int(is_bad.argmax())].path}: its embedding is not finite in {self.plan.precision} kept as "
                f"{self.plan.dtype}; try --precision fp32 --dtype float32, and test the weights"
            )
        return embeddings


def _reason(row: SourceRow, error: Exception) -> str:
    """Return the file and its error, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{row.path}: {error.strerror}"
    return str(error).split("; replace or delete")[0]
