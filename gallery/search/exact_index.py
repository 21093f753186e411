"""Exact nearest rows of a memory map: blocked float32 products select candidates, float64 distances rank them.

The error of a float32 product, about 1e-6, would reorder near-duplicates and give a crop a distance of 1e-3 to itself. So
the products of a block only rule out rows that cannot be among the k nearest; the distances of the others are exact.
NumPy computes everything: importing torch takes more memory than the search of a gallery of any size.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..storage.embeddings_file import FileRows, Rows, check_length, empty_rows
from ..storage.row_checks import LengthRange, squared_lengths
from .search_result import pair_distances

BLOCK_ELEMENTS = 2**22  # products, and converted values, in memory at once: 16 MiB of float32 each
BLOCK_BYTES = 2**26  # bytes of the memory map read at once
FILE_BLOCK_BYTES = 2**22  # bytes read at once from a file that is not mapped: they stay in the processor's cache
GROUP = 1024  # queries that share a pass over the gallery
KEEP_BYTES = 3 * 2**27  # 384 MiB: pages of a larger gallery are released after reading
Change = Callable[[np.ndarray, Any], np.ndarray]  # rows (n, D), their positions -> rows (n, D)
SPARSE = 8  # if at most one row in SPARSE passes the filters, only those rows are read
CROWDED = 8  # candidates per wanted neighbour above which a block's own k-th best score narrows them
PAIR_ELEMENTS = 2**20  # values of the pairs measured at once, 8 MiB of float64
CACHED_ELEMENTS = 2**18  # float16 values converted at once: 1 MiB of float32 fits the processor's cache


class Hits(NamedTuple):
    """The neighbours of one query: positions (k,) int64 in the gallery, and distances (k,) float32.

    They are nearest first. After re-ranking, `nearest` is the smallest distance of all candidates.
    """

    positions: np.ndarray
    distances: np.ndarray
    nearest: float | None = None


class Block(NamedTuple):
    """Some rows of the gallery: positions (B,), float32 rows (B, D), squared lengths (B,), mask of permitted rows (B,)."""

    positions: np.ndarray
    rows: np.ndarray
    norms: np.ndarray
    is_kept: np.ndarray | None


class ExactIndex:
    """Exhaustive search for the nearest rows; may be used by several threads. Its methods raise as `check_length`.

    Args:
        embeddings: (N, D) float32, float16 or int8, in memory, memory-mapped or read from a file; must not change.
        metric: "euclidean" or "cosine".
        scale: (D,) factors of int8 values.
        lengths: those of usable rows; no search returns a row of another length, or one with NaN.
        change: returns float32 rows (n, D) at some positions as they are compared, in new memory; None = unchanged.
    """

    def __init__(
        self,
        embeddings: Rows,
        metric: str = "euclidean",
        scale: Any = None,
        lengths: LengthRange = LengthRange(),  # noqa: B008 - a tuple
        change: Change | None = None,
    ) -> None:
        self.embeddings = embeddings if isinstance(embeddings, FileRows) else np.asarray(embeddings)
        self.metric, self.lengths = metric, lengths
        self.unusable: dict[int, float] = {}  # position -> squared length of the rows that searches have left out
        self._scale = None if scale is None else np.asarray(scale, np.float32)
        self._change = change
        self._norms = np.full(len(embeddings), -1, np.float32)  # filled by the first search
        self._pages = MappedPages(embeddings)

    def search(self, queries: np.ndarray, topk: int, mask: np.ndarray | None = None) -> list[Hits]:
        """Return the `topk` nearest rows of each query, fewer if fewer pass; equal distances are in gallery order.

        Args:
            queries: (Q, D) float32, no value beyond LARGEST.
            mask: (N,) bool, the permitted rows; None = all.
        """
        return [
            hit
            for group in np.split(queries, range(GROUP, len(queries), GROUP))
            for hit in self._nearest(group, topk, mask)
        ]

    def _nearest(self, queries: np.ndarray, topk: int, mask: np.ndarray | None) -> list[Hits]:
        kept = _Kept(queries, topk, self.metric)
        for block in self._blocks(len(queries), mask):
            kept.take(block)
        return kept.hits()

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at some positions as float32 (n, D)."""
        return self._decoded(positions)[0]

    def _decoded(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows at some positions (n,) as float32 (n, D), and as stored."""
        check_length(self.embeddings)
        stored = self.embeddings[positions]
        rows = self._floats(stored)
        return (rows if self._change is None else self._change(rows, positions)), stored

    def _blocks(self, num_queries: int, mask: np.ndarray | None) -> Iterator[Block]:
        """Yield the permitted rows, in gallery order, in blocks of bounded memory."""
        count, width = self.embeddings.shape
        window = max(256, BLOCK_BYTES // (width * self.embeddings.itemsize))
        step = max(256, min(BLOCK_ELEMENTS // num_queries, window))
        if self.embeddings.dtype != np.float32 or self._change is not None:
            step = max(256, min(step, BLOCK_ELEMENTS // width))
        memory = None  # that every block of a file is read into
        if isinstance(self.embeddings, FileRows):
            step = max(256, min(step, FILE_BLOCK_BYTES // (width * self.embeddings.itemsize)))
            memory = empty_rows(min(step, count), width, self.embeddings.dtype)
        if mask is not None and SPARSE * np.count_nonzero(mask) <= count:
            yield from self._gathered(np.flatnonzero(mask), window, step)
            return
        buffer = np.empty((0 if self.embeddings.dtype == np.float32 else min(step, count), width), np.float32)
        for start in range(0, count, step):
            stop = min(start + step, count)
            is_kept = None if mask is None else mask[start:stop]
            if is_kept is None or is_kept.any():
                stored = self._stored(start, stop, memory)
                rows = self._floats(stored, buffer[: stop - start])
                rows = rows if self._change is None else self._change(rows, slice(start, stop))
                norms = self._lengths(start, stop, rows, stored)
                yield self._usable(Block(np.arange(start, stop), rows, norms, is_kept))
                self._pages.drop(start, stop)

    def _gathered(self, positions: np.ndarray, window: int, step: int) -> Iterator[Block]:
        """Yield only the rows at some positions; at most one window of the map is in memory, even if they are far apart."""
        count = len(self.embeddings)
        ends = np.searchsorted(positions, range(window, count, window))
        for number, inside in enumerate(np.split(positions, ends)):
            for some in np.split(inside, range(step, len(inside), step)):
                if len(some):
                    rows, stored = self._decoded(some)
                    yield self._usable(Block(some, rows, squared_lengths(rows, stored), None))
            self._pages.drop(number * window, min((number + 1) * window, count))

    def _stored(self, start: int, stop: int, memory: np.ndarray | None) -> np.ndarray:
        """Return consecutive rows as stored, those of a file in `memory`."""
        if isinstance(self.embeddings, FileRows):
            return self.embeddings.read(start, stop, memory)
        check_length(self.embeddings)
        return self.embeddings[start:stop]

    def _floats(self, rows: np.ndarray, buffer: np.ndarray | None = None) -> np.ndarray:
        """Return stored rows (B, D) as float32, in `buffer` if conversion is needed."""
        if rows.dtype == np.float32:
            return rows
        floats = np.empty(rows.shape, np.float32) if buffer is None else buffer
        if rows.dtype == np.float16:
            widen(rows, floats)
        else:
            np.copyto(floats, rows)
        return floats if self._scale is None else np.multiply(floats, self._scale, out=floats)

    def _lengths(self, start: int, stop: int, rows: np.ndarray, stored: np.ndarray) -> np.ndarray:
        norms = self._norms[start:stop]
        if (norms == -1).any():
            norms[:] = squared_lengths(rows, stored)
        return norms

    def _usable(self, block: Block) -> Block:
        """Return the block without its unusable rows; their values would spoil the comparison of the others."""
        fits = self.lengths.accepts(block.norms)
        if fits.all():
            return block
        wrong = ~fits
        self.unusable.update(zip(block.positions[wrong].tolist(), block.norms[wrong].tolist(), strict=True))
        norms = np.where(fits, block.norms, 0)
        return Block(block.positions, block.rows, norms, fits if block.is_kept is None else block.is_kept & fits)

    def usable(self) -> np.ndarray:
        """Return (N,) bool, the rows that a search can return; reads all rows that no search has read before."""
        for _ in self._blocks(1, None):
            pass
        return self.lengths.accepts(self._norms)


class _Kept:
    """The nearest rows of each query (Q, D) in the blocks taken so far."""

    def __init__(self, queries: np.ndarray, topk: int, metric: str) -> None:
        self.metric, self.topk = metric, topk
        self.queries = queries
        self.products = np.array(queries / _lengths_of(queries) if metric == "cosine" else queries, np.float32)
        self.norms = squared_lengths(self.products)
        self.limits = np.full(len(queries), np.inf, np.float32)  # distance of the last of k neighbours
        self.owners, self.positions = np.empty(0, np.int64), np.empty(0, np.int64)
        self.distances = np.empty(0, np.float32)

    def take(self, block: Block) -> None:
        """Merge the rows of another block."""
        scores = self._scores(block)
        if block.is_kept is not None:
            scores[~block.is_kept] = -np.inf
        columns, owners = self._candidates(scores, block)
        if len(owners):
            self._merge(owners, block.positions[columns], self._measure(owners, columns, block))

    def _scores(self, block: Block) -> np.ndarray:
        """Return (B, Q) scores, larger for nearer rows: q . g - |g|^2 / 2, or the cosine."""
        with np.errstate(invalid="ignore", over="ignore"):  # in rows that are left out
            scores = block.rows @ self.products.T
        if self.metric == "cosine":
            scores *= (1 / np.sqrt(np.maximum(block.norms, np.float32(1e-30))))[:, None]
        else:
            scores -= (block.norms / 2)[:, None]
        return scores

    def _candidates(self, scores: np.ndarray, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Return row in the block (P,) and query (P,) of all scores (B, Q) that can be among the k best."""
        margin = self._margin(block)
        floors = self._floors() - margin
        found = scores > floors
        if np.count_nonzero(found) > CROWDED * self.topk * len(floors):
            last = max(0, len(scores) - self.topk)
            best = np.partition(scores.T, last, axis=1)[:, last]  # the k-th best of each query
            found = scores > np.maximum(floors, best - margin)
        return np.divmod(np.flatnonzero(found), len(floors))

    def _floors(self) -> np.ndarray:
        """Return (Q,) scores of a row at the limit."""
        return 1 - self.limits if self.metric == "cosine" else (self.norms - np.square(self.limits)) / 2

    def _margin(self, block: Block) -> np.ndarray:
        """Return (Q,) bounds of the error of a float32 score."""
        width = block.rows.shape[1]
        longest = 1 if self.metric == "cosine" else np.sqrt(block.norms.max())
        return np.float32(2**-22 * (4 + width**0.5)) * np.square(longest + np.sqrt(self.norms))

    def _measure(self, owners: np.ndarray, columns: np.ndarray, block: Block) -> np.ndarray:
        step = max(1, PAIR_ELEMENTS // block.rows.shape[1])
        parts = []
        for start in range(0, len(owners), step):
            some = slice(start, start + step)
            parts.append(pair_distances(self.queries[owners[some]], block.rows[columns[some]], self.metric))
        return np.concatenate(parts)

    def _merge(self, owners: np.ndarray, positions: np.ndarray, distances: np.ndarray) -> None:
        owners = np.concatenate([self.owners, owners])
        positions, distances = np.concatenate([self.positions, positions]), np.concatenate([self.distances, distances])
        order = np.lexsort((positions, distances, owners))
        starts = np.searchsorted(owners[order], np.arange(len(self.products)))
        order = order[np.arange(len(order)) - starts[owners[order]] < self.topk]
        self.owners, self.positions, self.distances = owners[order], positions[order], distances[order]
        last = np.searchsorted(self.owners, np.arange(len(self.products))) + self.topk - 1
        is_full = np.bincount(self.owners, minlength=len(self.products)) == self.topk
        self.limits[is_full] = self.distances[last[is_full]]

    def hits(self) -> list[Hits]:
        """Return the neighbours of each query."""
        ends = np.searchsorted(self.owners, np.arange(1, len(self.products)))
        return [
            Hits(*pair) for pair in zip(np.split(self.positions, ends), np.split(self.distances, ends), strict=True)
        ]


class MappedPages:
    """The memory-mapped pages of an array (N, D); those of a large array are released after reading."""

    def __init__(self, array: Rows) -> None:
        root: Any = array
        while isinstance(root, np.ndarray) and not isinstance(root, mmap.mmap):
            root = root.base
        self.file: mmap.mmap | None = None
        if not isinstance(array, np.ndarray):
            return
        if isinstance(root, mmap.mmap) and array.nbytes > KEEP_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self.file, self.row = root, array.strides[0]
            first = np.frombuffer(root, np.uint8, 1).__array_interface__["data"][0]
            self.start = array.__array_interface__["data"][0] - first

    def drop(self, start: int, stop: int) -> None:
        """Release the pages of some rows; reading them again loads them again."""
        if self.file is not None:
            first = (self.start + start * self.row) // mmap.PAGESIZE * mmap.PAGESIZE
            self.file.madvise(mmap.MADV_DONTNEED, first, self.start + stop * self.row - first)


def _lengths_of(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.where(lengths > 0, lengths, 1)


def widen(halves: np.ndarray, floats: np.ndarray) -> None:
    """Write finite float16 values (B, D) as float32 (B, D), exactly; four times as fast as numpy's own conversion.

    Sign, exponent and mantissa move to their places in a float32; its exponent bias is 127 instead of 15.
    """
    step = max(1, CACHED_ELEMENTS // max(1, halves.shape[1]))
    for start in range(0, len(halves), step):
        values = floats[start : start + step]
        bits = values.view(np.int32)
        np.left_shift(halves[start : start + step].view(np.int16), 13, out=bits, dtype=np.int32)  # keeps the sign
        np.bitwise_and(bits, np.int32(0x0FFFE000 - 2**31), out=bits)
        np.multiply(values, np.float32(2.0**112), out=values)
