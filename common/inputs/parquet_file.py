"""Parquet files: what a group of rows takes in memory is measured before it is decoded.

A text that stands in many rows is stored once, and equal numbers take next to nothing, so that 50 kB can hold 16 GB.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UserError
from ..forked_processes import watch_forks
from ..text import first_line
from .reading_process import ReadingProcessError, read_elsewhere
from .regular_files import check_regular

GROUP_BYTES = 2**31  # that a group of rows may take in memory: half a million records have 0.1 GB
LOOK_BYTES = 2**27  # that the measuring of nested values may take
VALUE_BYTES = 16  # of a value that is no text, with what Arrow needs besides
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)  # raised by pyarrow for files with changed or missing bytes


class ParquetInput:
    """An opened Parquet file; it stays open, so rows of a replacement never mix in. May be used by several threads.

    Args:
        remedy: next step for a damaged file, for the message.
    Raises:
        FileNotFoundError, NotRegularFileError: as `check_regular`.
        UserError: it is damaged, or, when rows are read, would take far more memory than sound files; names it.
    """

    def __init__(self, path: Path, remedy: str = "restore it or export again") -> None:
        check_regular(path)
        self.path, self.remedy = path, remedy
        with damage_named(path, remedy):
            self._source = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._source)
            self.metadata, self.schema = self._file.metadata, self._file.schema_arrow
            self._paths = [self._file.schema.column(number).path for number in range(self.metadata.num_columns)]
        # the same file, with texts that stand in many rows kept once, by column
        self._shared: dict[str, pq.ParquetFile] = {}
        self._measured: set[tuple[int, str]] = set()  # group, column
        self._is_checked = False  # in another process
        self._reading = threading.Lock()  # a file is read by one thread at a time
        watch_forks(self)

    def after_fork(self) -> None:
        """Replace the lock in a child of `fork`: another thread of the parent may hold it."""
        self._reading = threading.Lock()

    @property
    def num_groups(self) -> int:
        """Number of groups of rows."""
        return self._file.num_row_groups

    def read(self, groups: Iterable[int] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return some groups of rows, some columns; None = all."""
        chosen = list(range(self.num_groups) if groups is None else groups)
        names = self.schema.names if columns is None else list(columns)
        with self._reading, damage_named(self.path, self.remedy):
            for group in chosen:
                self._measure(group, names)
            table = self._file.read_row_groups(chosen, names, use_threads=False)
            table.validate(full=True)  # the reader takes any bytes as UTF-8, and lengths as they are given
        expected = sum(self.metadata.row_group(group).num_rows for group in chosen)
        if len(table) != expected:
            raise UserError(f"{self.path} is damaged: it holds {len(table)} of {expected} rows; {self.remedy}")
        return table

    def _measure(self, group: int, names: Sequence[str]) -> None:
        """Raise UserError if columns of a group that were not read before would take too much memory."""
        about, left, size = self.metadata.row_group(group), set(names), 0
        left -= {name for name in names if (group, name) in self._measured}
        if not left:
            return
        self._look_at(group, left)
        for number, path in enumerate(self._paths):
            name = path if path in left else path.partition(".")[0]
            if name not in left:
                continue
            column = about.column(number)
            values = max(column.num_values, about.num_rows)
            size += values * VALUE_BYTES
            if size <= GROUP_BYTES:  # else nothing needs to be decoded to refuse it
                size += self._decoded_bytes(group, name, values, column.total_uncompressed_size)
            if size > GROUP_BYTES:
                raise UserError(
                    f"{self.path} would take more than {GROUP_BYTES / 1e9:.1f} GB of memory for {about.num_rows:,} rows of the column "
                    f"{name!r}, which sound files never do; do not use it"
                )
        self._measured |= {(group, name) for name in left}

    def _look_at(self, group: int, names: Iterable[str]) -> None:
        """Raise an error of DAMAGE, or UserError, where wrong statistics of a column would end this process (pyarrow 26).

        Readers check them and raise; `metadata.row_group(group).column(number)` does not.
        """
        nested = [name for name in names if pa.types.is_nested(self._kind(name))]
        flat = [name for name in names if name not in nested]
        for _ in self._file.iter_batches(1, [group], flat, use_threads=False) if flat else ():
            break
        if nested and not self._is_checked:  # one row of lists may hold any number of values
            try:
                read_elsewhere("parquet", self.path)
            except ReadingProcessError as error:
                raise UserError(f"{self.path} is damaged ({error}); {self.remedy}") from None
            self._is_checked = True

    def _kind(self, name: str) -> pa.DataType:
        """Return the type of a column, or of the one that a leaf such as `list.element` belongs to."""
        return self.schema.field(name if name in self.schema.names else name.partition(".")[0]).type

    def _decoded_bytes(self, group: int, name: str, values: int, stored: int) -> int:
        """Return what texts and nested values of a column take besides VALUE_BYTES each; 0 where it cannot be much."""
        kind = self._kind(name)
        if pa.types.is_nested(kind):
            return self._nested_bytes(group, name, stored)
        is_small = pa.types.is_primitive(kind) or values * stored <= GROUP_BYTES
        return 0 if is_small else self._text_bytes(group, name)

    def _text_bytes(self, group: int, name: str) -> int:
        """Return the length of all texts of a column; each is decoded once."""
        if name not in self._shared:
            about = self._file.metadata  # else it would be read again
            self._shared[name] = pq.ParquetFile(self._source, metadata=about, read_dictionary=[name])
        column, total = self._shared[name].read_row_group(group, [name], use_threads=False)[name], 0
        for chunk in column.chunks:
            is_shared = isinstance(chunk, pa.DictionaryArray)
            lengths = pc.binary_length(chunk.dictionary if is_shared else chunk)
            total += pc.sum((lengths.take(chunk.indices) if is_shared else lengths).cast(pa.int64())).as_py() or 0
        return total

    def _nested_bytes(self, group: int, name: str, stored: int) -> int:
        """Return the size of a column of lists or structures, decoded a few rows at a time."""
        total = 0
        step = max(1, min(1024, LOOK_BYTES // max(1, stored)))
        for batch in self._file.iter_batches(step, [group], [name], use_threads=False):
            total += batch.nbytes
            if total > GROUP_BYTES:
                break
        return total


@contextmanager
def damage_named(path: Path, remedy: str) -> Iterator[None]:
    """Turn pyarrow's errors about wrong bytes into UserError with the file's name."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):  # not the file's fault
            raise
        raise UserError(f"{path} is damaged or cut short ({first_line(error)[:200]}); {remedy}") from error
