"""Add images to a gallery by hand: files, a folder or a CSV file, with what is known of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....common.errors import UserError
from ....common.text import to_seconds
from ....datasets.readers.box_crops import is_still
from ....processor.distributed.process_group import Ranks
from ....processor.embedding.embedder import Embedder
from ...storage.gallery import Gallery
from ..export_job import CORRUPT, ImageUpdateJob
from ..source_rows import FIELDS, ImageFiles, Source, SourceRow
from ..sources import open_source
from ..work_folder import PartsFolder
from .update_job import check_same_model, dtype_of


class ImageList(ImageFiles):
    """Image files named one by one, in their order."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [os.path.abspath(Path(path).expanduser()) for path in paths]

    def rows(self) -> Iterator[SourceRow]:
        """Yield one row per file."""
        return map(SourceRow, self._paths)


class LabelledRows:
    """The rows of a source with some columns set; itself a source.

    Args:
        values: column -> text, None = unknown.
    """

    def __init__(self, source: Source, values: Mapping[str, str | None]) -> None:
        if taken := sorted({"id", "path"} & set(values)):
            raise UserError(f"--set: {taken[0]} cannot be set; it comes from the images")
        kept: dict[str, Any] = {name: values[name] for name in FIELDS if name in values}
        if "time" in kept:
            kept["time"] = to_seconds(kept["time"])
        self._own, self._others = kept, {name: text for name, text in values.items() if name not in kept}
        self.extra = {**source.extra, **dict.fromkeys(self._others, str)}
        self.num_readers, self._source = source.num_readers, source

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows with the values."""
        for row in self._source.rows():
            yield replace(row, **self._own, extra={**row.extra, **self._others})

    def read(self, row: SourceRow) -> np.ndarray:
        """Return the pixels of a row."""
        return self._source.read(row)


def open_inputs(inputs: Sequence[str]) -> Source:
    """Return the source of some image files, or of one folder or CSV file.

    Raises:
        FileNotFoundError, UserError: an input is not there, or is no image next to others.
    """
    if len(inputs) == 1 and not is_still(inputs[0]):
        return open_source(inputs[0])
    for text in inputs:
        if not is_still(text):
            raise UserError(f"INPUT: {text} is no image file; give image files, or one folder, or one CSV file")
        if not Path(text).expanduser().is_file():
            raise FileNotFoundError(f"INPUT: no file {text!r} (from {Path.cwd()})")
    return ImageList(inputs)


def add_images(
    path: str | Path,
    inputs: Sequence[str],
    load: Callable[[], Embedder],
    values: Mapping[str, str | None] | None = None,
    corrupt: str = "error",
) -> None:
    """Embed images and add them to a gallery: all of them or, after a crash, none; the same call continues.

    Images that are there already are left out, and so are those that were removed earlier.

    Args:
        path: folder of the gallery.
        inputs: as `open_inputs`.
        load: returns the embedder; called once the inputs were found.
        values: columns that are set in all rows.
        corrupt: reaction to an image that cannot be read, one of CORRUPT.
    Raises:
        UserError: the gallery is of another model, or an input or value is wrong.
    """
    if corrupt not in CORRUPT:
        raise UserError(f"--corrupt: unknown value {corrupt!r}; choose from {', '.join(CORRUPT)}")
    gallery = Gallery.open(path)
    source: Source = open_inputs(inputs)
    if values:
        source = LabelledRows(source, values)
    embedder = load()
    check_same_model(gallery, embedder)
    text = inputs[0] if len(inputs) == 1 else f"{len(inputs)} images"
    kind = dtype_of(gallery, None)
    job = ImageUpdateJob(gallery.path, corrupt, source, embedder, text, kind, gallery, None)
    job.work = PartsFolder(gallery.path.with_name(f"{gallery.path.name}.added.partial"))  # the work of an export stays
    job.run(Ranks())
